"""Judge a stream of a connection: refused, held, waiting after an error, or drifting."""

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from models.resources import RESOURCES
from worker.conditions.condition import Code, Condition, Severity
from worker.conditions.facts import ConnectionFacts, StreamFacts
from worker.conditions.reasons import (
    is_budget_spent,
    is_nango_away,
    is_not_offered,
    is_throttled,
    is_waiting_for_other,
)
from worker.conditions.texts import build_condition, write_permission_text
from worker.core.time_text import render_count, render_moment

HIGH_DRIFT: Final = 50
"""Changes that the deltas had missed, found by one full walk, from which it needs attention."""


def judge_stream(facts: ConnectionFacts, stream: StreamFacts, now: datetime) -> Iterator[Condition]:
    """Yield the conditions of a stream."""
    if stream.is_refused:
        yield _judge_refused(facts, stream, now)
    elif stream.is_held:
        yield _judge_held(facts, stream)
    elif stream.is_waiting and is_waiting_for_other(stream.reason):
        yield _judge_waiting_for_other(facts, stream)
    elif stream.is_waiting and not _is_explained_elsewhere(stream):
        yield _judge_waiting(facts, stream, now)
    drift = count_drift(stream)
    if drift > HIGH_DRIFT:
        walked = f" ({render_moment(stream.full_walk_at, now)})" if stream.full_walk_at else ""
        yield build_condition(
            facts,
            Code.DRIFT_HIGH,
            Severity.WARNING,
            f"{stream.resource}: the last full walk{walked} found {render_count(drift, 'change')} "
            "that the deltas had missed; they are stored now",
            f"'tenant-mirror status {facts.id}' shows which; if it happens again, shorten "
            "full_walk_seconds in the connection's metadata in Nango",
            since=stream.full_walk_at,
            resource=stream.resource,
        )


def count_drift(stream: StreamFacts) -> int:
    """Return how many changes the last full walk found that the deltas had missed."""
    drift = stream.drift or {}
    return sum(number for kinds in drift.values() for number in kinds.values())


def _is_explained_elsewhere(stream: StreamFacts) -> bool:
    """Whether another condition, of the connection or the fleet, says why it waits."""
    reason = stream.reason
    return (
        stream.out_of_budget
        or is_throttled(reason)
        or is_budget_spent(reason)
        or is_nango_away(reason)
    )


def _judge_refused(facts: ConnectionFacts, stream: StreamFacts, now: datetime) -> Condition:
    reason = stream.reason or "Graph refuses it"
    if stream.is_not_licensed:
        return _judge_unlicensed(facts, stream, now)
    if is_not_offered(reason):
        return build_condition(
            facts,
            Code.PERMISSION_MISSING,
            Severity.INFO,
            f"{stream.resource} is not read: {reason}",
            "nothing, unless the customer expects it: it is tried again every hour",
            resource=stream.resource,
        )
    permission = RESOURCES[stream.resource].permission
    return build_condition(
        facts,
        Code.PERMISSION_MISSING,
        Severity.WARNING,
        f"{stream.resource} is refused: {reason}",
        f"ask the customer to grant {permission}; then 'tenant-mirror resync {facts.id} "
        f"--resource {stream.resource}'; or switch the resource off, for this customer or for all",
        resource=stream.resource,
        customer_text=write_permission_text(facts, permission, stream.resource),
    )


def _judge_unlicensed(facts: ConnectionFacts, stream: StreamFacts, now: datetime) -> Condition:
    """Return that the tenant lacks a licence; rows of a time when it had one stay as they were."""
    read = next((one.fresh_at for one in facts.freshness if one.resource == stream.resource), None)
    since = None if read is None else datetime.fromtimestamp(read, now.tzinfo)
    rows = f"; its rows are those of {render_moment(since, now)}" if since else ""
    return build_condition(
        facts,
        Code.PERMISSION_MISSING,
        Severity.INFO,
        f"{stream.resource} is not read: {stream.reason}{rows}",
        "nothing: it is asked for again every day; once the customer has the licence, "
        f"'tenant-mirror resync {facts.id} --resource {stream.resource}' reads it at once",
        since=since,
        resource=stream.resource,
    )


def _judge_held(facts: ConnectionFacts, stream: StreamFacts) -> Condition:
    reason = (stream.reason or "deletions wait").removeprefix("waits for approval: ")
    reason = reason.removeprefix(f"{stream.resource}: ")
    return build_condition(
        facts,
        Code.HELD_DELETIONS,
        Severity.WARNING,
        f"{stream.resource}: {render_count(stream.held, 'deletion')} held for approval: {reason}",
        f"'tenant-mirror approve {facts.id} --list' shows them; 'tenant-mirror approve "
        f"{facts.id}' carries them out after a review, and with --reject discards them and reads "
        "everything again",
        resource=stream.resource,
    )


def _judge_waiting(facts: ConnectionFacts, stream: StreamFacts, now: datetime) -> Condition:
    again = "with the next slice"
    if stream.due_at is not None and stream.due_at > now:
        again = f"at {render_moment(stream.due_at, now)}"
    return build_condition(
        facts,
        Code.SYNC_FAILING,
        Severity.WARNING,
        f"{stream.resource} waits: {stream.reason}; tried again {again}",
        f"it is tried again by itself; 'tenant-mirror resync {facts.id} --resource "
        f"{stream.resource}' tries it at once",
        resource=stream.resource,
    )


def _judge_waiting_for_other(facts: ConnectionFacts, stream: StreamFacts) -> Condition:
    """Return that a resource is read below the objects of another one, which cannot be read."""
    other = RESOURCES[stream.resource].partitioned_by
    return build_condition(
        facts,
        Code.SYNC_FAILING,
        Severity.INFO,
        f"{stream.resource} is not read: it {stream.reason}; its rows stay as they are",
        f"nothing while {other} is read for the first time, or if it is refused for another reason "
        f"shown here; else switch {other} on, or {stream.resource} off",
        resource=stream.resource,
    )
