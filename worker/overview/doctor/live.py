"""Probes many tenants one after the other, within Nango's budget, and can go on after an end."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from worker.nango.client import ConnectionRef, NangoClient
from worker.overview.fleet import FleetConnection
from worker.probe.answers import MAX_CALLS, StopReason
from worker.probe.findings import Verdict
from worker.probe.report import decide_outcome, run_checks
from worker.probe.requests import run_probe
from worker.probe.scope import ProbeScope

USUAL_CALLS_A_MINUTE: Final = 200
"""Nango's limit where none is known."""
BUDGET_PAUSE_SECONDS: Final = 15.0
"""Seconds until a probe that met an empty budget is made again."""


@dataclass(frozen=True)
class ProbePrice:
    """What probing so many tenants costs at most."""

    connections: int
    calls: int
    minutes: float


class ProbedTenant(msgspec.Struct, frozen=True):
    """The result for one tenant, a line of the report."""

    connection_id: int
    outcome: str
    failed: tuple[str, ...]
    """Assumptions that do not hold."""
    calls: int


def compute_price(connections: int, calls_a_minute: int | None) -> ProbePrice:
    calls = connections * MAX_CALLS
    return ProbePrice(connections, calls, calls / (calls_a_minute or USUAL_CALLS_A_MINUTE))


def read_report(path: Path) -> dict[int, ProbedTenant]:
    """Return the tenants of a report; a line that was cut off by a kill is left out."""
    if not path.exists():
        return {}
    found = {}
    for line in path.read_bytes().splitlines():
        try:
            one = msgspec.json.decode(line, type=ProbedTenant)
        except msgspec.DecodeError:
            continue
        found[one.connection_id] = one
    return found


def probe_tenants(
    nango: NangoClient,
    connections: Sequence[FleetConnection],
    report: Path,
    *,
    get_scope: Callable[[int], ProbeScope],
    wait: Callable[[float], None] = time.sleep,
) -> Iterator[ProbedTenant]:
    """Probe each tenant that the report lacks, add it to the report, and yield it.

    ``get_scope`` returns what a connection, by its number, is asked for.
    """
    done = read_report(report)
    with report.open("ab") as file:
        if report.stat().st_size:
            file.write(b"\n")  # after a line that was cut off
        for one in connections:
            if one.id in done:
                continue
            probed = _probe(nango, one, get_scope(one.id), wait)
            file.write(msgspec.json.encode(probed) + b"\n")
            file.flush()
            yield probed


def _probe(
    nango: NangoClient, one: FleetConnection, scope: ProbeScope, wait: Callable[[float], None]
) -> ProbedTenant:
    address = ConnectionRef(one.facts.nango_id, one.facts.integration)
    before = nango.calls
    while True:
        answers = run_probe(nango, address, one.facts.tenant_id, _ignore_progress, scope)
        if answers.stop_reason is not StopReason.THROTTLED:
            break
        wait(BUDGET_PAUSE_SECONDS)
    findings = run_checks(answers)
    return ProbedTenant(
        one.id,
        decide_outcome(answers, findings).name.lower(),
        tuple(found.name for found in findings if found.verdict is Verdict.FAILS),
        nango.calls - before,
    )


def _ignore_progress(_asked: str, _number: int) -> None:
    """Ignore the progress within one probe."""
