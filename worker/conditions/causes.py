"""What holds up many connections at once, and which connections each of these explains."""

from datetime import datetime, timedelta
from typing import Final

import msgspec

from models.run import RunTrigger
from worker.conditions.condition import Code
from worker.conditions.facts import (
    DUE_PATIENCE_SECONDS,
    BudgetFacts,
    ConnectionFacts,
    ServiceFacts,
)
from worker.core.time_text import drop_jitter, render_moment

BUDGET_PATIENCE_SECONDS: Final = 30.0
"""How long a connection may be due, while the dispatcher works, before the budget is to blame."""


class FleetCause(msgspec.Struct, frozen=True):
    """A condition of the service, as the reason why a connection waits."""

    code: Code
    wait: str
    """What is waited for, to follow "due; "."""
    since: datetime | None = None
    next_at: datetime | None = None
    suspends: bool = True
    """Whether nothing moves until it ends; otherwise connections wait for their turn."""


class Situation:
    """The facts about the service, with what follows from them for every connection."""

    def __init__(self, service: ServiceFacts) -> None:
        self.service = service
        self.now = service.now
        self.common_cause = _find_common_cause(service)
        self.unserved = frozenset(service.unserved_queues)
        self.budget = service.shared.budget


def _find_common_cause(service: ServiceFacts) -> FleetCause | None:
    """Return what holds up every connection, if anything: the root where there are several."""
    now, shared = service.now, service.shared
    if service.halt is not None:
        return FleetCause(
            Code.HALTED,
            f"all calls are halted: {service.halt.reason}",
            service.halt.since,
            service.halt.until,
        )
    if shared.outage is not None:
        return FleetCause(
            Code.NANGO_SILENT,
            "Nango does not work, which is checked every few seconds",
            drop_jitter(now - timedelta(seconds=shared.outage.seconds)),
        )
    if shared.redis_problem is not None:
        return FleetCause(Code.SERVER_UNUSABLE, f"Redis cannot be used: {shared.redis_problem}")
    if shared.shortage is not None:
        return FleetCause(Code.SERVER_UNUSABLE, f"a server has no room: {shared.shortage}")
    if not service.is_dispatcher_alive:
        at = service.tick_at
        silence = f"has been silent since {render_moment(at, now)}" if at else "has never ticked"
        return FleetCause(Code.DISPATCHER_SILENT, f"the dispatcher {silence}", at)
    return None


def find_holding_cause(facts: ConnectionFacts, situation: Situation) -> FleetCause | None:
    """Return the condition of the service that keeps a synced connection from moving, if any."""
    if not facts.is_synced or facts.holder is not None or facts.is_paused(situation.now):
        return None
    if situation.common_cause is not None:
        return situation.common_cause
    if situation.unserved and (lane := facts.lane.value) in situation.unserved:
        return FleetCause(Code.WORKERS_SILENT, f"no worker consumes the queue '{lane}'")
    return _find_turn_cause(facts, situation)


def _find_turn_cause(facts: ConnectionFacts, situation: Situation) -> FleetCause | None:
    """Return why a connection's turn does not come: the budget, or a dispatcher that sends none."""
    budget, service, now = situation.budget, situation.service, situation.now
    cut_off = any(one.out_of_budget for one in facts.streams)
    overdue = _count_overdue_seconds(facts, now)
    if budget is not None and (cut_off or (overdue >= 0 and _is_spent(budget, facts.lane))):
        return _build_budget_cause(budget, now)
    takes_turns = facts.lane is not RunTrigger.BACKFILL  # a first load waits for a free process
    is_stalled = service.held_back is not None or (takes_turns and not service.is_sending)
    if overdue > DUE_PATIENCE_SECONDS and is_stalled:
        why = f": {service.held_back}" if service.held_back else ""
        return FleetCause(
            Code.DISPATCHER_SILENT,
            f"the dispatcher works, but sends nothing that is due{why}",
            service.sent_at,
        )
    if not takes_turns:
        return None
    if budget is not None and budget.limit is not None and overdue > BUDGET_PATIENCE_SECONDS:
        return _build_budget_cause(budget, now)
    if overdue > DUE_PATIENCE_SECONDS:
        return FleetCause(
            Code.DISPATCHER_SILENT, "the dispatcher sends others first", suspends=False
        )
    return None


def _count_overdue_seconds(facts: ConnectionFacts, now: datetime) -> float:
    """Return for how long a connection is due and not sent; a negative number if it is not due."""
    return -1.0 if facts.due_at is None else (now - facts.due_at).total_seconds()


def _build_budget_cause(budget: BudgetFacts, now: datetime) -> FleetCause:
    """Return that Nango's budget has no call for a connection that is due, or cut off a run."""
    left = "" if budget.limit is None else f" ({budget.left} of {budget.limit} calls left)"
    return FleetCause(
        Code.WAITING_FOR_BUDGET,
        f"Nango's budget has no call for it yet{left}",
        next_at=max(now, drop_jitter(now + timedelta(seconds=_compute_wait(budget)))),
        suspends=False,
    )


def _is_spent(budget: BudgetFacts, lane: RunTrigger) -> bool:
    return budget.paused_for_seconds > 0 or budget.allowances.get(lane.value) == 0


def _compute_wait(budget: BudgetFacts) -> float:
    return max(budget.paused_for_seconds, budget.resets_in_seconds or 0.0, 0.0)
