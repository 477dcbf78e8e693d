"""The page of budgets: calls to Nango, who waits for them or is throttled, and the workers."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from models.counter import CounterName, ThrottleOrigin, WaitReason
from models.run import RunTrigger
from worker.conditions.condition import Code
from worker.conditions.facts import BudgetFacts
from worker.core.counts import CounterKey
from worker.core.time_text import drop_jitter
from worker.overview.fleet import Fleet
from worker.overview.traffic import (
    Queue,
    WaitingConnection,
    build_queue,
    list_throttled,
    list_worker_holds,
)
from worker.page.charts import Chart, Series, describe_sum
from worker.page.page import View, Visit
from worker.page.runs import TRIGGERS
from worker.store.counters import load_counters
from worker.store.state.fleet_runs import CallUse, load_call_use
from worker.store.state.metrics import set_statement_timeout

_MINUTES: Final = 60
_USE_SECONDS: Final = 10.0
"""How long the use of the last hour is shown as it was read."""
_SHOWN: Final = 10
_CODES: Final = frozenset(
    {
        Code.WAITING_FOR_BUDGET,
        Code.NANGO_SILENT,
        Code.HALTED,
        Code.DISPATCHER_SILENT,
        Code.WORKERS_SILENT,
        Code.SERVER_UNUSABLE,
        Code.CLOCK_OFF,
    }
)
_ORIGINS: Final = {ThrottleOrigin.NANGO: "Nango", ThrottleOrigin.GRAPH: "Microsoft Graph"}
_REASONS: Final = {
    WaitReason.BUDGET: "for Nango's budget",
    WaitReason.GRAPH: "as Graph asked to",
    WaitReason.RETRY: "after a fault",
}


class Lane(msgspec.Struct, frozen=True):
    """A lane of calls: what it used in this minute, and what waits in it."""

    name: str
    title: str
    calls: int | None
    running: int
    waiting: int
    may_start: int | None
    """Connections that may still be sent to the workers; None for any number."""


class TopCaller(msgspec.Struct, frozen=True):
    """A connection with the calls of its runs of the last hour."""

    connection_id: int
    title: str
    calls: int
    runs: int


def show_budget(visit: Visit) -> View:
    fleet = visit.load_fleet()
    budget, queue = fleet.service.shared.budget, fleet.derive(build_queue)
    use, counters = visit.context.reads.get("budget", lambda: _read(visit), seconds=_USE_SECONDS)
    values = {
        "conditions": [one for one in fleet.conditions if one.code in _CODES],
        "budget": None if budget is None else _describe_budget(budget, fleet.now),
        "is_shared": visit.context.settings.redis_url is not None,
        "lanes": _build_lanes(budget, queue),
        "waiting": _list_waiting(queue),
        "waiting_total": len(queue.waiting),
        "throttled": fleet.derive(list_throttled)[:_SHOWN],
        "throttled_total": len(fleet.derive(list_throttled)),
        "callers": _list_callers(use, fleet),
        "chart": _build_chart(use, fleet.now),
        "throttles": [
            (title, int(counters.get((CounterName.THROTTLED_RESPONSES, (origin,)), 0)))
            for origin, title in _ORIGINS.items()
        ],
        "waits": [
            (title, counters.get((CounterName.CALL_WAIT_SECONDS, (reason,)), 0.0))
            for reason, title in _REASONS.items()
        ],
        "workers": fleet.derive(list_worker_holds),
        "is_ticking": fleet.service.is_dispatcher_alive,
        "tick_at": None if fleet.service.is_dispatcher_alive else fleet.service.tick_at,
        "tick_seconds": fleet.service.tick_seconds,
        "titles": {one.value: title for one, title in TRIGGERS.items()},
    }
    return View("budget.html", "Budget", values)


def _read(visit: Visit) -> tuple[list[CallUse], Mapping[CounterKey, float]]:
    since = _begin_hour(datetime.now(UTC))
    with visit.context.database.open_transaction() as db:
        set_statement_timeout(db)
        return load_call_use(db, since), load_counters(db)


def _begin_hour(now: datetime) -> datetime:
    return now.replace(second=0, microsecond=0) - timedelta(minutes=_MINUTES - 1)


def _describe_budget(budget: BudgetFacts, now: datetime) -> dict[str, Any]:
    used = None
    if budget.limit is not None and budget.left is not None:
        used = max(0, budget.limit - budget.left)
    pause = budget.paused_for_seconds
    return {
        "limit": budget.limit,
        "used": used,
        "left": budget.left,
        "source": budget.source,
        "paused_until": None if not pause else drop_jitter(now + timedelta(seconds=pause)),
    }


def _build_lanes(budget: BudgetFacts | None, queue: Queue) -> list[Lane]:
    used = {} if budget is None else budget.calls
    allowances = {} if budget is None else budget.allowances
    keys = {
        RunTrigger.MANUAL: "by_hand",
        RunTrigger.SCHEDULED: "by_clock",
        RunTrigger.BACKFILL: "first_loads",
    }
    return [
        Lane(
            lane.value,
            TRIGGERS[lane],
            used.get(key),
            queue.running.get(lane.value, 0),
            queue.counts.get(lane.value, 0),
            allowances.get(lane.value),
        )
        for lane, key in keys.items()
    ]


def _list_waiting(queue: Queue) -> Sequence[WaitingConnection]:
    return queue.waiting[:_SHOWN]


def _list_callers(use: Sequence[CallUse], fleet: Fleet) -> list[TopCaller]:
    found = []
    for one in use:
        if one.connection_id is not None:
            known = fleet.by_id.get(one.connection_id)
            title = known.facts.title if known else f"connection {one.connection_id}"
            found.append(TopCaller(one.connection_id, title, one.calls, one.runs))
    return found


def _build_chart(use: Sequence[CallUse], now: datetime) -> Chart | None:
    """Return a bar for each minute of the last hour, also where there were no calls."""
    known = {one.minute: one.calls for one in use if one.minute is not None}
    if not known:
        return None
    last = now.replace(second=0, microsecond=0)
    minutes = [last - timedelta(minutes=back) for back in range(_MINUTES - 1, -1, -1)]
    calls = [float(known.get(minute, 0)) for minute in minutes]
    return Chart(
        name="calls-by-minute",
        title="Calls by minute",
        summary=f"{describe_sum(calls, 'call')} of the runs that began within the last hour, by "
        "the minute in which the run began",
        begins=minutes,
        series=[Series("calls", "calls", list(calls))],
        form="%H:%M",
    )


def count_silent(fleet: Fleet) -> int:
    """Return how many conditions of budgets and processes need attention."""
    return sum(one.severity.needs_attention and one.code in _CODES for one in fleet.conditions)
