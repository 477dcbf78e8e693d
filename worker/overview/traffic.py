"""Who waits for calls, whom Graph throttles, and which worker holds what. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec

from models.queues import ALL_QUEUES
from models.run import RunTrigger
from worker.conditions.activity import ActivityState
from worker.conditions.condition import Code
from worker.conditions.connection_judge import find_throttle_end
from worker.conditions.facts import ConnectionFacts
from worker.core.time_text import drop_jitter
from worker.overview.fleet import Fleet, FleetConnection

WAITING: Final = (
    ActivityState.DUE,
    ActivityState.WAITING_FOR_WORKER,
    ActivityState.WAITING_FOR_SLOT,
    ActivityState.WAITING_FOR_BUDGET,
    ActivityState.SUSPENDED,
)
"""What a connection waits for that the service itself can end."""


class WaitingConnection(msgspec.Struct, frozen=True):
    """A connection that is due and has not begun."""

    id: int
    title: str
    lane: str
    state: ActivityState
    sentence: str
    since: datetime | None


class Queue(msgspec.Struct, frozen=True):
    """The connections that wait for the service, those that wait longest first."""

    waiting: Sequence[WaitingConnection]
    counts: Mapping[str, int]
    """By lane."""
    running: Mapping[str, int]
    """Connections that are synced now, by lane."""


class ThrottledConnection(msgspec.Struct, frozen=True):
    """A customer that Graph asked us to leave alone for a while."""

    id: int
    title: str
    until: datetime
    """The end of the longest pause."""
    pauses: Sequence[tuple[str, datetime]]
    """Each service with the end of its pause; none for one that only a stream or a run tells of."""


class HeldByWorker(msgspec.Struct, frozen=True):
    """A connection that a process of a worker syncs now."""

    id: int
    title: str
    trigger: str | None
    since: datetime | None
    calls: int | None


class WorkerHolds(msgspec.Struct, frozen=True):
    """A worker, and what its processes do."""

    name: str
    queues: Sequence[str]
    processes: int
    is_alive: bool
    seen_at: datetime | None
    """When it last reported, if it is silent."""
    holds: Sequence[HeldByWorker]


def build_queue(fleet: Fleet) -> Queue:
    """Return who waits. Connections at rest are passed over quickly."""
    waiting, counts, running = [], Counter[str](), Counter[str]()
    for one in fleet.in_use:
        facts = one.facts
        if facts.holder is not None:
            running[(facts.running_trigger or facts.lane.value)] += 1
        elif _may_wait(facts, fleet.now):
            found = _build_waiting(one)
            if found is not None:
                counts[found.lane] += 1
                waiting.append(found)
    waiting.sort(key=lambda one: (one.since or fleet.now, one.id))
    return Queue(waiting, counts, running)


def list_throttled(fleet: Fleet) -> Sequence[ThrottledConnection]:
    """Return the customers that Graph throttles, those that wait longest first.

    They are those with the condition, so that no page says anything else about them.
    """
    found = []
    for one in fleet.in_use:
        if not any(condition.code is Code.THROTTLED_BY_GRAPH for condition in one.conditions):
            continue
        until = find_throttle_end(one.facts, fleet.now)
        assert until is not None, "the condition holds as long as Graph's pause"
        pauses = sorted(
            (service, drop_jitter(fleet.now + timedelta(seconds=seconds)))
            for service, seconds in one.facts.graph_pauses.items()
        )
        found.append(ThrottledConnection(one.id, one.facts.title, drop_jitter(until), pauses))
    return sorted(found, key=lambda one: (-one.until.timestamp(), one.id))


def list_worker_holds(fleet: Fleet) -> Sequence[WorkerHolds]:
    """Return the workers, those that are alive first, with what each holds."""
    held: dict[str, list[FleetConnection]] = {}
    for one in fleet.in_use:
        if one.facts.holder is not None:
            held.setdefault(one.facts.holder, []).append(one)
    found = [
        WorkerHolds(
            worker.name,
            [queue for queue in ALL_QUEUES if queue in worker.queues],
            len(worker.processes),
            worker.is_alive,
            None
            if worker.is_alive
            else drop_jitter(fleet.now - timedelta(seconds=worker.seen_seconds_ago)),
            [_build_held(one) for name in worker.processes for one in held.get(name, ())],
        )
        for worker in fleet.service.workers
    ]
    return sorted(found, key=lambda one: (not one.is_alive, one.name))


def _may_wait(facts: ConnectionFacts, now: datetime) -> bool:
    if facts.waiting_since is not None or facts.requested_at is not None:
        return True
    return (facts.due_at is not None and facts.due_at <= now) or any(
        one.out_of_budget for one in facts.streams
    )


def _build_waiting(one: FleetConnection) -> WaitingConnection | None:
    activity = one.activity
    if activity.state not in WAITING:
        return None
    lane = activity.lane or RunTrigger.SCHEDULED.value
    since = activity.since or one.facts.due_at
    return WaitingConnection(
        one.id, one.facts.title, lane, activity.state, activity.sentence, since
    )


def _build_held(one: FleetConnection) -> HeldByWorker:
    facts = one.facts
    return HeldByWorker(
        one.id, facts.title, facts.running_trigger, facts.running_since, facts.running_calls
    )
