"""The page of runs: what the whole fleet did, newest first."""

from datetime import datetime
from typing import Final

import msgspec

from models.run import RunState, RunTrigger
from worker.overview.fleet import Fleet
from worker.page.page import View, Visit
from worker.page.spans import PastQuery, begin_day, choose_ids, end_day, render_most
from worker.store.state.fleet_runs import (
    MAX_COUNT,
    FleetRun,
    RunFilter,
    count_fleet_runs,
    list_fleet_runs,
)
from worker.store.state.metrics import set_statement_timeout

STATE_MARKS: Final = {
    RunState.RUNNING: "info",
    RunState.SUCCEEDED: "well",
    RunState.PARTIAL: "warning",
    RunState.HELD: "warning",
    RunState.FAILED: "error",
}
"""The mark of each outcome; its word says the same."""


def mark_run(state: RunState | None) -> str:
    """Return the mark of a run's outcome; None stands for a run that is yet to come."""
    return "info" if state is None else STATE_MARKS[state]


TRIGGERS: Final = {
    RunTrigger.MANUAL: "by hand",
    RunTrigger.SCHEDULED: "by schedule",
    RunTrigger.BACKFILL: "first load",
}
STATES: Final = (
    RunState.RUNNING,
    RunState.FAILED,
    RunState.HELD,
    RunState.PARTIAL,
    RunState.SUCCEEDED,
)


class FleetRunsQuery(PastQuery, frozen=True, kw_only=True):
    """Which runs, newest first."""

    state: RunState | None = None
    trigger: RunTrigger | None = None


class RunStateCount(msgspec.Struct, frozen=True):
    """How many runs have an outcome."""

    state: RunState
    mark: str
    count: str
    is_chosen: bool


class RunRow(msgspec.Struct, frozen=True):
    """A run in the list."""

    id: int
    connection_id: int
    name: str | None
    state: RunState
    mark: str
    trigger: str
    started_at: datetime
    seconds: float | None
    """How long it took; None while it runs."""
    calls: int
    objects: int
    changes: list[tuple[str, int]]
    reason: str | None


def show_runs(visit: Visit) -> View:
    query: FleetRunsQuery = visit.query
    fleet = visit.load_fleet()
    wanted = build_run_filter(fleet, query)
    runs, counts = visit.context.reads.get(
        ("runs", wanted, query.after, query.limit), lambda: _read(visit, wanted)
    )
    shown = runs[: query.limit]
    total = sum(counts.values()) if query.state is None else counts[query.state]
    chosen = None if query.connection is None else fleet.by_id.get(query.connection)
    values = {
        "query": query,
        "customer": None if chosen is None else chosen.facts.title,
        "states": [
            RunStateCount(
                one, STATE_MARKS[one], render_most(counts[one], MAX_COUNT), one == query.state
            )
            for one in STATES
        ],
        "outcomes": [one.value for one in STATES],
        "triggers": [(one.value, title) for one, title in TRIGGERS.items()],
        "rows": [build_run_row(one, fleet) for one in shown],
        "total": render_most(total, MAX_COUNT),
        "is_filtered": wanted != RunFilter(),
        "next_key": shown[-1].id if len(runs) > query.limit else None,
    }
    return View("runs.html", "Runs", values)


def build_run_filter(fleet: Fleet, query: FleetRunsQuery) -> RunFilter:
    """Return which runs a query asks for."""
    return RunFilter(
        query.state,
        query.trigger,
        choose_ids(fleet, query),
        begin_day(query.since),
        end_day(query.until),
    )


def _read(visit: Visit, wanted: RunFilter) -> tuple[list[FleetRun], dict[RunState, int]]:
    query: FleetRunsQuery = visit.query
    with visit.context.database.open_transaction() as db:
        set_statement_timeout(db)
        runs = list_fleet_runs(db, wanted, before=query.after, limit=query.limit + 1)
        return runs, count_fleet_runs(db, wanted)


def build_run_row(run: FleetRun, fleet: Fleet) -> RunRow:
    """Return a run as the table shows it."""
    known = fleet.by_id.get(run.connection_id)
    kinds = ("created", "updated", "deleted", "restored", "rejected")
    return RunRow(
        id=run.id,
        connection_id=run.connection_id,
        name=None if known is None else known.facts.title,
        state=run.state,
        mark=STATE_MARKS[run.state],
        trigger=TRIGGERS[run.trigger],
        started_at=run.started_at,
        seconds=None
        if run.finished_at is None
        else max(0.0, (run.finished_at - run.started_at).total_seconds()),
        calls=run.calls,
        objects=run.objects,
        changes=[(kind, number) for kind in kinds if (number := getattr(run, kind))],
        reason=run.error,
    )
