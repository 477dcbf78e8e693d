"""Choose the next step of a stream. Pure functions of state, request and time."""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import Enum, auto

from models.resource import Resource
from models.stream import Phase
from worker.store.state.streams import Stream
from worker.sync.policy import Policy

MAX_RESTARTS = 3
"""Restarts of a stream's walk before the stream waits."""


PROPERTY_WALK_SPREAD = timedelta(days=1)
"""Time over which the walks for a new list of properties are spread, over all connections."""


class StreamStep(Enum):
    """The next action for a stream."""

    WAIT = auto()
    TAKE_TOKEN = auto()
    """Fetch a delta token, then start a listing that it covers."""
    START_WALK = auto()
    """Start a full walk."""
    FETCH_PAGE = auto()
    """Fetch the next page of the walk or round."""
    APPLY_REMOVALS = auto()
    """A round is complete: apply the removals that it announced."""
    SWEEP = auto()
    """A walk is complete: delete the rows that it did not see."""


@dataclass(frozen=True)
class SyncRequest:
    """What to sync: on schedule, or at a person's request made at ``requested_at``."""

    requested_at: datetime
    manual: bool = False
    resources: frozenset[str] | None = None
    full: bool = False
    ignores_pause: bool = False
    """Whether it syncs a connection that an operator has paused."""

    def covers(self, stream: Stream) -> bool:
        """Whether the request includes this stream; an edge can also be named itself."""
        if self.resources is None:
            return True
        return any(resource.name in self.resources for resource in stream.carried_resources)


def choose_step(  # noqa: PLR0911 - one return a step
    stream: Stream, request: SyncRequest, now: datetime, policy: Policy, pending_removals: int
) -> StreamStep:
    """Return a stream's next step; ``pending_removals`` counts removals that await their round."""
    at_rest = (
        stream.is_on and stream.phase in (Phase.DELTA, Phase.HELD) and stream.next_link is None
    )
    if pending_removals and at_rest:
        return StreamStep.APPLY_REMOVALS
    if not _is_wanted(stream, request, now):
        return StreamStep.WAIT
    stream = resume_refused(stream)
    if stream.phase is Phase.LISTING:
        return StreamStep.FETCH_PAGE
    if stream.phase is Phase.SWEEPING:
        return StreamStep.SWEEP
    if not stream.follows_delta:
        return _choose_first_step(stream)
    if stream.next_link is not None:
        return StreamStep.FETCH_PAGE
    if _is_cursor_outdated(stream, now, policy) or _is_ready_for_full_walk(stream, request, now):
        return _choose_first_step(stream)
    return StreamStep.FETCH_PAGE


def rank_for_opening(stream: Stream) -> tuple[bool, datetime]:
    """Return the place in the opening call, which holds a limited number: deltas, then by due time.

    Without a due time it is due since ever.
    """
    return not stream.follows_delta, stream.due_at or datetime.min.replace(tzinfo=UTC)


def resume_refused(stream: Stream) -> Stream:
    """Return a refused stream in the phase in which it was refused, its cursor included."""
    if stream.phase is not Phase.REFUSED:
        return stream
    phase = stream.refused_phase or Phase.READY
    link = stream.next_link if phase is Phase.LISTING else stream.delta_link
    if link is None and phase in (Phase.LISTING, Phase.DELTA):
        phase = Phase.READY  # an earlier release dropped the cursor and left the phase
    reason = "waits for approval" if phase is Phase.HELD else None
    return replace(stream, phase=phase, refused_phase=None, reason=reason)


def _choose_first_step(stream: Stream) -> StreamStep:
    return StreamStep.TAKE_TOKEN if stream.source.takes_token else StreamStep.START_WALK


def _is_wanted(stream: Stream, request: SyncRequest, now: datetime) -> bool:
    if not (stream.is_on and request.covers(stream)):
        return False
    if request.manual and (stream.fresh_at is None or stream.fresh_at < request.requested_at):
        return True
    if request.manual and request.full and not _has_full_walk_since(stream, request.requested_at):
        return True
    if stream.due_at is None:
        return True
    return stream.due_at <= now


def _has_full_walk_since(stream: Stream, since: datetime) -> bool:
    return stream.full_walk_at is not None and stream.full_walk_at >= since


def _is_cursor_outdated(stream: Stream, now: datetime, policy: Policy) -> bool:
    """Whether the cursor is unusable: too old, or given up."""
    if stream.select_hash is None:
        return True
    age = timedelta(days=policy.cursor_days)
    return stream.delta_link_at is None or now - stream.delta_link_at > age


def schedule_property_walk(stream: Stream, connection_id: int, now: datetime) -> Stream:
    """Return the stream with a full walk within a day, if its cursor lacks columns that are new.

    Graph goes on with the properties that a cursor was made for, so the deltas stay right, and only
    a walk brings the values of the others. The moment follows from the connection, as a release
    with another list reaches all connections at once. A moment that is set is never moved.
    """
    if not _lacks_columns(stream):
        return stream
    if stream.full_due_at is not None and stream.full_due_at <= now + PROPERTY_WALK_SPREAD:
        return stream
    about = f"{connection_id}/{stream.name}".encode()
    part = int.from_bytes(hashlib.blake2b(about, digest_size=4).digest(), "big") / 2**32
    return replace(stream, full_due_at=now + PROPERTY_WALK_SPREAD * part)


def _lacks_columns(stream: Stream) -> bool:
    """Whether deltas do not bring all columns: the cursor, or the last walk, asked for others."""
    if not stream.follows_delta or stream.select_hash is None:
        return False
    if stream.select_hash != compute_select_hash(stream.resource, stream.without):
        return True
    walked = stream.walked_columns
    return walked is not None and not set(stream.current_columns) <= set(walked)


def _is_ready_for_full_walk(stream: Stream, request: SyncRequest, now: datetime) -> bool:
    """Whether a full walk is due and a delta round began after it fell due.

    The round comes first, so that the walk finds only what the deltas have missed.
    """
    since = _find_walk_due_time(stream, request, now)
    return since is not None and stream.fresh_at is not None and stream.fresh_at >= since


def _find_walk_due_time(stream: Stream, request: SyncRequest, now: datetime) -> datetime | None:
    if request.full and not _has_full_walk_since(stream, request.requested_at):
        return request.requested_at
    overdue = stream.full_due_at is not None and stream.full_due_at <= now
    return stream.full_due_at if overdue else None


def should_measure_drift(
    stream: Stream, request: SyncRequest, now: datetime, policy: Policy
) -> bool:
    """Whether a full walk that begins now measures what the deltas have missed."""
    up_to_date = stream.phase is Phase.DELTA and stream.delta_link is not None
    return (
        up_to_date
        and not _is_cursor_outdated(stream, now, policy)
        and _is_ready_for_full_walk(stream, request, now)
    )


def should_retry_plain(stream: Stream, request: SyncRequest) -> bool:
    """Whether to return to plain mode, which was refused before: ahead of every walk.

    The request travels with the opening ``$batch`` and costs next to nothing, so one transient
    refusal never leaves a stream in a poorer mode for long. A search that was under way when a
    person asked for a sync is restarted, as a search can never be complete.
    """
    if stream.phase in (Phase.READY, Phase.HELD):
        return stream.uses_fallback
    began = stream.walk_started_at
    older = request.manual and began is not None and began < request.requested_at
    return bool(stream.source.best_effort) and older


def should_retry_left_out(
    stream: Stream, request: SyncRequest, now: datetime, policy: Policy
) -> bool:
    """Whether a walk that begins now requests the left-out properties again.

    Each regular full walk does; a stream that is always walked in full does so at the same
    interval.
    """
    if not stream.left_out or stream.left_out_at is None:
        return False
    due = _find_walk_due_time(stream, request, now)
    age = timedelta(seconds=policy.full_walk_seconds)
    return now - stream.left_out_at > age or (due is not None and stream.left_out_at < due)


def compute_select_hash(resource: Resource, without: Collection[str] = ()) -> str:
    """Return a digest of the selected properties: Graph binds a cursor to them."""
    names = [name for name in resource.selected if name not in without]
    return hashlib.blake2b(",".join(names).encode(), digest_size=8).hexdigest()


def compute_next_due(
    due: datetime | None, now: datetime, interval: float, jitter: float
) -> datetime:
    """Return the previous due time plus the interval, so that the schedule does not drift.

    ``jitter`` (0 to 1) spreads a stream that was far behind over a tenth of its interval.
    """
    step = timedelta(seconds=interval)
    if due is not None and due <= now < due + step:
        return due + step
    return now + step * (1 + 0.1 * (jitter - 0.5))


def compute_due_after_round(
    stream: Stream, now: datetime, interval: float, jitter: float
) -> datetime:
    """Return when a stream is due after a round: at once if a full walk follows."""
    if stream.full_due_at and stream.fresh_at and stream.full_due_at <= stream.fresh_at:
        return now
    return compute_next_due(stream.due_at, now, interval, jitter)
