"""Checks the key of Nango and its scopes with at most three calls."""

from collections.abc import Callable
from dataclasses import dataclass, field

from models.run import RunTrigger
from worker.conditions.condition import Severity
from worker.core.errors import ConfigurationError, ConnectionBroken, MirrorError
from worker.core.net.retry_after import parse_http_date
from worker.graph.urls import ORGANIZATION_PATH
from worker.nango.circuit_breaker import HEALTH_CHECK_PATH
from worker.nango.client import ConnectionRef, NangoClient
from worker.nango.connections import check_presence
from worker.overview.doctor.diagnosis import Diagnosis, DiagnosisCode


@dataclass
class NangoExamination:
    """What the calls told."""

    diagnoses: list[Diagnosis] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)
    """What is in order."""
    clock: float | None = None
    """Nango's time in Unix seconds, to the second."""


def examine_nango(nango: NangoClient, example: ConnectionRef | None) -> NangoExamination:
    """Check the key and its scopes; ``example`` is a connection that works, if there is one."""
    found = NangoExamination()

    def list_one() -> None:
        response = nango.get(HEALTH_CHECK_PATH)
        found.clock = parse_http_date(response.headers.get("date"))

    if not _try(found, "environment:connections:list", list_one) or example is None:
        return found
    _try(found, "environment:connections:read", lambda: check_presence(nango, example))
    _try(
        found,
        "environment:proxy",
        lambda: nango.proxy(
            example, ORGANIZATION_PATH, lane=RunTrigger.MANUAL, single_attempt=True
        ),
    )
    return found


def _try(found: NangoExamination, scope: str, call: Callable[[], object]) -> bool:
    """Make a call that needs a scope, and record what that tells; return whether it worked."""
    try:
        call()
    except ConnectionBroken:
        pass  # the scope sufficed; the connection's own condition is judged elsewhere
    except ConfigurationError as error:
        is_scope = "lacks a scope" in error.message
        found.diagnoses.append(
            Diagnosis(
                code=DiagnosisCode.NANGO_SCOPE if is_scope else DiagnosisCode.NANGO_KEY,
                severity=Severity.CRITICAL,
                subject="Nango's key",
                sentence=f"it lacks the scope {scope}" if is_scope else error.message,
                remedy=(
                    "add the scope to the key in Nango, or replace the key"
                    if is_scope
                    else "set NANGO_SECRET_KEY and NANGO_HOST to the environment's key and address"
                ),
            )
        )
        return False
    except MirrorError as error:
        found.diagnoses.append(
            Diagnosis(
                code=DiagnosisCode.NANGO_UNREACHABLE,
                severity=Severity.ERROR,
                subject="Nango",
                sentence=error.message,
                remedy="check the network to NANGO_HOST, and Nango's own status",
            )
        )
        return False
    found.checked.append(f"Nango's key has the scope {scope}")
    return True
