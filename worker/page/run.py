"""The page of one run: what came, what changed, what was left out and why, waits and calls."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from models.run import RunState, RunTrigger
from worker.overview.fleet import FleetConnection
from worker.page.next_move import hold_next_move
from worker.page.page import View, Visit
from worker.page.runs import STATE_MARKS, TRIGGERS
from worker.store.state.metrics import set_statement_timeout
from worker.store.state.runs import get_run

_KINDS: Final = {
    "created": "new",
    "updated": "changed",
    "deleted": "deleted",
    "restored": "came back",
}


class ResourceResult(msgspec.Struct, frozen=True):
    """What became of a resource in a run."""

    name: str
    phase: str
    mode: str
    changes: list[tuple[str, str, int]]
    """Table, kind and number."""
    drift: list[tuple[str, str, int]]
    """Changes that the deltas had missed."""
    left_out: list[str]
    """What it lacks, each with the reason."""


class RunDetail(msgspec.Struct, frozen=True):
    """A run."""

    id: int
    state: RunState
    mark: str
    trigger: str
    started_at: datetime
    finished_at: datetime | None
    seconds: float | None
    slices: int
    calls: int
    pages: int
    objects: int
    changes: list[tuple[str, int]]
    rejected: int
    reason: str | None


def show_run(visit: Visit) -> View:
    run_id = visit.ids["run_id"]
    fleet = visit.load_fleet()
    row = visit.context.reads.get(("run", run_id), lambda: _read(visit, run_id))
    connection = fleet.by_id.get(row["connection_id"])
    is_running = row["state"] == RunState.RUNNING
    values = {
        "run": _build_run(row),
        "connection_id": row["connection_id"],
        "customer": None if connection is None else connection.facts.title,
        "resources": _build_results(row["resources"]),
        "walked": _list_walked(row["resources"]),
        "activity": hold_next_move(connection.activity)
        if connection is not None and is_running
        else None,
        "waits": list(_list_waits(connection)) if connection is not None and is_running else [],
    }
    return View("run.html", f"Run {run_id}", values)


def _read(visit: Visit, run_id: int) -> dict[str, Any]:
    with visit.context.database.open_transaction() as db:
        set_statement_timeout(db)
        return dict(get_run(db, run_id))


def _build_run(row: Mapping[str, Any]) -> RunDetail:
    started, finished = row["started_at"], row["finished_at"]
    state = RunState(row["state"])
    return RunDetail(
        id=row["id"],
        state=state,
        mark=STATE_MARKS[state],
        trigger=TRIGGERS[RunTrigger(row["trigger"])],
        started_at=started,
        finished_at=finished,
        seconds=None if finished is None else max(0.0, (finished - started).total_seconds()),
        slices=row["slices"],
        calls=row["calls"],
        pages=row["pages"],
        objects=row["objects"],
        changes=[(words, row[kind]) for kind, words in _KINDS.items()],
        rejected=row["rejected"],
        reason=row["error"],
    )


def _build_results(resources: Mapping[str, Any] | None) -> list[ResourceResult]:
    """Return the report on each resource; a run that goes on, or was cut short, has none."""
    return [
        ResourceResult(
            name,
            one["phase"],
            one["mode"],
            _list_changes(one.get("changes")),
            _list_changes(one.get("drift")),
            list(_list_left_out(one)),
        )
        for name, one in (resources or {}).items()
        if isinstance(one, dict)
    ]


def _list_walked(resources: Mapping[str, Any] | None) -> list[str]:
    """Return the resources that a run which goes on has read completely."""
    return sorted(name for name, one in (resources or {}).items() if one is True)


def _list_changes(tables: Mapping[str, Mapping[str, int]] | None) -> list[tuple[str, str, int]]:
    return [
        (table, _KINDS.get(kind, kind), number)
        for table, kinds in (tables or {}).items()
        for kind, number in kinds.items()
        if number
    ]


def _list_left_out(report: Mapping[str, Any]) -> Iterator[str]:
    if report.get("problem"):
        yield str(report["problem"])
    if report.get("left_out"):
        columns = ", ".join(report["left_out"])
        yield f"without {columns}: Graph does not know them in this tenant"
    if report.get("page_size"):
        yield f"read in pages of {report['page_size']}: Graph does not answer larger ones"


def _list_waits(connection: FleetConnection) -> Iterator[tuple[str, str, datetime | None]]:
    """Yield each resource that waits, why, and until when."""
    for one in connection.facts.streams:
        if one.reason is not None and not one.best_effort:
            yield one.resource, one.reason, one.due_at
