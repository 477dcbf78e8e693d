"""Why not now? What a connection does or waits for at present, and when it moves next.

Sentences name moments, not ages: an age would make each refresh of a page differ from the last.
"""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from models.connection import ConnectionStatus
from models.run import RunTrigger
from worker.conditions.causes import Situation, find_holding_cause
from worker.conditions.condition import Code
from worker.conditions.facts import BudgetFacts, ConnectionFacts
from worker.conditions.reasons import is_throttled
from worker.core.time_text import render_moment

_LANES: Final = {
    RunTrigger.MANUAL: "requested by a person",
    RunTrigger.SCHEDULED: "due by its schedule",
    RunTrigger.BACKFILL: "first load",
}


class ActivityState(StrEnum):
    """What a connection does at present. Its last outcome is another matter."""

    RUNNING = "running"
    SCHEDULED = "scheduled"
    """At rest: nothing is due yet."""
    DUE = "due"
    """Due, and the dispatcher takes it up with one of the next ticks."""
    WAITING_FOR_WORKER = "waiting_for_worker"
    """Its message is sent, and no process has begun."""
    WAITING_FOR_SLOT = "waiting_for_slot"
    """Its first load waits until another one ends."""
    WAITING_FOR_BUDGET = "waiting_for_budget"
    THROTTLED = "throttled"
    RETRYING = "retrying"
    """It waits after a failure."""
    SUSPENDED = "suspended"
    """Something that concerns all connections holds it up."""
    PAUSED = "paused"
    STOPPED = "stopped"
    """It is not synced: retired, or a duplicate."""


Moment = Annotated[datetime, Meta(tz=True)]


class Activity(msgspec.Struct, frozen=True):
    """What a connection does or waits for, and when it moves next."""

    state: Annotated[ActivityState, Meta(description="what it does or waits for")]
    sentence: Annotated[str, Meta(description="the same in plain words, with the reason")]
    since: Annotated[Moment | None, Meta(description="since when; null if that is not known")] = (
        None
    )
    next_at: Annotated[
        Moment | None,
        Meta(description="when it moves next; null if that depends on a person, or on a failure"),
    ] = None
    lane: Annotated[
        str | None,
        Meta(description="kind of run that it does or waits for, which is also the queue"),
    ] = None
    holder: Annotated[str | None, Meta(description="the process that syncs it now")] = None


def describe_activity(facts: ConnectionFacts, situation: Situation) -> Activity:
    """Return what a connection does or waits for; every connection has an answer."""
    now = situation.now
    return (
        _describe_stop(facts)
        or _describe_run(facts, now)
        or _describe_pause(facts, now)
        or _describe_suspension(facts, situation)
        or _describe_throttle(facts, now)
        or _describe_wait(facts, situation)
    )


def _describe_stop(facts: ConnectionFacts) -> Activity | None:
    if facts.status not in (ConnectionStatus.RETIRED, ConnectionStatus.DUPLICATE):
        return None
    reason = facts.status_reason or f"it is {facts.status}"
    return Activity(ActivityState.STOPPED, f"not synced: {reason}", since=facts.retired_at)


def _describe_run(facts: ConnectionFacts, now: datetime) -> Activity | None:
    if facts.holder is None:
        return None
    since = facts.running_since
    begun = f" since {render_moment(since, now)}" if since else ""
    lane = RunTrigger(facts.running_trigger) if facts.running_trigger else facts.lane
    return Activity(
        ActivityState.RUNNING,
        f"syncing{begun} ({_LANES[lane]}), held by {facts.holder}",
        since=since,
        lane=lane.value,
        holder=facts.holder,
    )


def _describe_pause(facts: ConnectionFacts, now: datetime) -> Activity | None:
    if facts.is_paused(now):
        by = f" by {facts.paused_by}" if facts.paused_by else ""
        until = f"until {render_moment(facts.paused_until, now)}" if facts.paused_until else ""
        end = until or f"until 'tenant-mirror resume {facts.id}'"
        sentence = f"paused{by} {end}"
        return Activity(ActivityState.PAUSED, sentence, facts.paused_at, facts.paused_until)
    if facts.status == ConnectionStatus.PAUSED:
        return Activity(
            ActivityState.PAUSED, "paused until 'enabled' is true in its metadata in Nango"
        )
    return None


def _describe_suspension(facts: ConnectionFacts, situation: Situation) -> Activity | None:
    """Return what holds up all connections, or all of its lane, unless it is not due anyway."""
    cause = find_holding_cause(facts, situation)
    if cause is None or not cause.suspends:
        return None
    return Activity(
        ActivityState.SUSPENDED,
        f"{_describe_due(facts, situation.now)}; {cause.wait}",
        since=cause.since,
        next_at=cause.next_at,
        lane=facts.lane.value,
    )


def _describe_due(facts: ConnectionFacts, now: datetime) -> str:
    if facts.due_at is None or facts.due_at <= now:
        return "due"
    return f"due at {render_moment(facts.due_at, now)}"


def _describe_throttle(facts: ConnectionFacts, now: datetime) -> Activity | None:
    ends = facts.list_pause_ends(now)
    if facts.last_aborted and is_throttled(facts.last_error) and facts.due_at:
        ends.append(facts.due_at)
    ends = [end for end in ends if end > now]
    if not ends:
        return None
    until = max(ends)
    services = f" ({', '.join(sorted(facts.graph_pauses))})" if facts.graph_pauses else ""
    return Activity(
        ActivityState.THROTTLED,
        f"waits until {render_moment(until, now)}, as Graph asked to send nothing{services}",
        next_at=max(until, facts.due_at) if facts.due_at else until,
        lane=facts.lane.value,
    )


def _describe_wait(facts: ConnectionFacts, situation: Situation) -> Activity:
    now, due = situation.now, facts.due_at
    if due is None:
        return Activity(
            ActivityState.STOPPED,
            f"has no due time; 'tenant-mirror resync {facts.id}' gives it one",
        )
    if due > now:
        return _describe_not_due(facts, due, situation)
    return _describe_unclaimed(facts, due, situation)


def _describe_not_due(facts: ConnectionFacts, due: datetime, situation: Situation) -> Activity:
    now, lane = situation.now, facts.lane.value
    at = render_moment(due, now)
    if facts.waiting_since is not None:
        since = render_moment(facts.waiting_since, now)
        return Activity(
            ActivityState.WAITING_FOR_WORKER,
            f"sent to the queue '{lane}', waits for a free process since it fell due at {since}; "
            f"sent again at {at} if none begins",
            since=facts.waiting_since,
            next_at=due,
            lane=lane,
        )
    if facts.status == ConnectionStatus.BROKEN:
        tries = facts.broken_count
        return Activity(
            ActivityState.RETRYING,
            f"broken ({tries} failed {'try' if tries == 1 else 'tries'} so far); tried again at "
            f"{at}",
            next_at=due,
            lane=lane,
        )
    if facts.has_failed or facts.last_aborted:
        error = facts.last_error or "no reason is stored"
        return Activity(
            ActivityState.RETRYING,
            f"waits after its last run ({error}); tried again at {at}",
            since=facts.last_finished_at,
            next_at=due,
            lane=lane,
        )
    if any(one.out_of_budget for one in facts.streams):
        return Activity(
            ActivityState.WAITING_FOR_BUDGET,
            f"waits for Nango's budget of calls; continues at {at}",
            next_at=due,
            lane=lane,
        )
    return Activity(ActivityState.SCHEDULED, f"next read at {at}", next_at=due, lane=lane)


def _describe_unclaimed(facts: ConnectionFacts, due: datetime, situation: Situation) -> Activity:
    """Return why the dispatcher has not sent a connection that is due."""
    now, lane = situation.now, facts.lane
    waited = f"due since {render_moment(due, now)} ({_LANES[lane]})"
    tick = (situation.service.tick_at or now) + timedelta(seconds=situation.service.tick_seconds)
    next_tick = max(tick, now)
    cause = find_holding_cause(facts, situation)
    if cause is not None and cause.code is Code.WAITING_FOR_BUDGET:
        return Activity(
            ActivityState.WAITING_FOR_BUDGET,
            f"{waited}; {cause.wait}",
            since=due,
            next_at=cause.next_at or next_tick,
            lane=lane.value,
        )
    if lane is RunTrigger.BACKFILL:
        return Activity(
            ActivityState.WAITING_FOR_SLOT,
            f"{waited}; begins when a process for first loads is free",
            since=due,
            next_at=next_tick,
            lane=lane.value,
        )
    turn = cause.wait if cause is not None else "sent with one of the next ticks"
    return Activity(
        ActivityState.DUE,
        f"{waited}; {turn}{_describe_budget(situation.budget)}",
        since=due,
        next_at=next_tick,
        lane=lane.value,
    )


def _describe_budget(budget: BudgetFacts | None) -> str:
    if budget is None or budget.limit is None:
        return ""
    return f", as far as Nango's budget allows ({budget.left:,} of {budget.limit:,} calls left)"
