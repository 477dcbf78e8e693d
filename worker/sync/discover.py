"""Nango's list of connections against ours: enrol the new, retire the vanished.

One absence in a list proves nothing, so a missing connection is asked for by name; only when
Nango itself says that it is gone is it retired. Its rows stay until somebody forgets them.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func

from models.change_event import ConnectionChange
from models.connection import ConnectionStatus
from worker.core.settings import MICROSOFT_PROVIDERS, Settings
from worker.events.ledger import tell_connection
from worker.nango.client import Address, NangoClient
from worker.nango.connections import Listed, is_gone, list_connections
from worker.store.connections import Known, all_connections, change_connection
from worker.store.engine import Database
from worker.store.enrolment import enrol
from worker.store.lease import interrupting
from worker.sync.policy import METADATA_KEY, Policy, customised


@dataclass
class Discovery:
    """What a reading of Nango's list led to, by label."""

    listed: int = 0
    enrolled: list[str] = field(default_factory=list)
    returned: list[str] = field(default_factory=list)
    retired: list[str] = field(default_factory=list)
    paused: list[str] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)


def discover(database: Database, nango: NangoClient, settings: Settings) -> Discovery:
    """Read Nango's list once and follow it. Raises Halt, Later, Away."""
    listed = [row for row in list_connections(nango) if _ours(row, settings)]
    done = Discovery(listed=len(listed))
    with database.begin() as connection:
        known = {one.label: one for one in all_connections(connection)}
    for row in reversed(listed):
        _follow(database, known.get(str(row.address)), row, done)
    present = {str(row.address) for row in listed}
    for missing in _missing(known.values(), present):
        if is_gone(nango, Address(missing.nango_connection_id, missing.provider_config_key)):
            _retire(database, missing)
            done.retired.append(missing.label)
    return done


def _ours(row: Listed, settings: Settings) -> bool:
    if settings.nango_integrations:
        return row.provider_config_key in settings.nango_integrations
    return row.provider in MICROSOFT_PROVIDERS


def _missing(known: Iterable[Known], present: set[str]) -> list[Known]:
    return [
        one
        for one in known
        if one.label not in present and one.status is not ConnectionStatus.RETIRED
    ]


def _follow(database: Database, known: Known | None, row: Listed, done: Discovery) -> None:
    """Enrol a connection, or bring what Nango says of it up to date."""
    wanted = (row.metadata or {}).get(METADATA_KEY)
    policy, problem = customised(Policy(), wanted)
    label = str(row.address)
    if problem:
        done.problems[label] = problem
    if known is None:
        with database.begin() as connection:
            new_id = enrol(connection, row.connection_id, row.provider_config_key, row.provider)
        with interrupting(database, new_id) as tx:
            tell_connection(tx, ConnectionChange.ADDED, _about(row))
            change_connection(tx, **_settings(wanted, problem), **_status(None, policy))
        done.enrolled.append(label)
        return
    changes = _changes(known, wanted, problem, policy)
    if not changes:
        return
    with interrupting(database, known.id) as tx:
        if known.status is ConnectionStatus.RETIRED:
            tell_connection(tx, ConnectionChange.ADDED, _about(row))
            done.returned.append(label)
        change_connection(tx, **changes)
    if changes.get("status") == ConnectionStatus.PAUSED:
        done.paused.append(label)


def _about(row: Listed) -> dict[str, object]:
    return {
        "nango_connection_id": row.connection_id,
        "provider_config_key": row.provider_config_key,
        "provider": row.provider,
    }


def _settings(wanted: Any, problem: str | None) -> dict[str, Any]:
    kept = {} if wanted is None else {METADATA_KEY: wanted}
    return {"settings": kept, "settings_problem": problem}


def _changes(known: Known, wanted: Any, problem: str | None, policy: Policy) -> dict[str, Any]:
    """What has to be changed about a connection that we know; empty when nothing has."""
    changes: dict[str, Any] = {}
    if known.settings.get(METADATA_KEY) != wanted:
        changes |= _settings(wanted, problem)
    return changes | _status(known, policy)


def _status(known: Known | None, policy: Policy) -> dict[str, Any]:
    status = known.status if known else ConnectionStatus.ACTIVE
    if not policy.enabled:
        if status is ConnectionStatus.PAUSED:
            return {}
        reason = f"switched off by the metadata key {METADATA_KEY} in Nango"
        return {"status": ConnectionStatus.PAUSED, "status_reason": reason, "due_at": None}
    if status in (ConnectionStatus.PAUSED, ConnectionStatus.RETIRED):
        return {
            "status": ConnectionStatus.ACTIVE,
            "status_reason": None,
            "retired_at": None,
            "due_at": func.clock_timestamp(),
        }
    return {}


def _retire(database: Database, known: Known) -> None:
    with interrupting(database, known.id) as tx:
        change_connection(
            tx,
            status=ConnectionStatus.RETIRED,
            status_reason="it is gone from Nango; its rows are kept",
            retired_at=tx.moment,
            due_at=None,
        )
        tell_connection(tx, ConnectionChange.REMOVED, {})
