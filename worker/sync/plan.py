"""What is to be done next for a stream. Pure: state, order and time in, a step out."""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum, auto

from models.resource import Kind, Resource
from models.stream import Mode, Phase
from worker.store.streams import Stream
from worker.sync.policy import Policy

MAX_RESTARTS = 3
"""Walks of a stream that may be begun again before it waits."""


class Step(Enum):
    """One thing to do for a stream."""

    WAIT = auto()
    TOKEN = auto()
    """Take a delta token, then begin a listing that it covers."""
    BEGIN = auto()
    """Begin a full walk."""
    PAGE = auto()
    """Read the next page of the walk or round."""
    SETTLE = auto()
    """A round is complete: apply the removals that it announced."""
    SWEEP = auto()
    """A walk is complete: delete what it did not see."""


@dataclass(frozen=True)
class Order:
    """What was asked for: by the clocks, or by a person at ``since``."""

    since: datetime
    manual: bool = False
    resources: frozenset[str] | None = None
    full: bool = False

    def covers(self, stream: Stream) -> bool:
        """Whether the order is about this stream; an edge is asked for by its own name too."""
        if self.resources is None:
            return True
        return any(resource.name in self.resources for resource in stream.carries)


def next_step(  # noqa: PLR0911 - one return a step
    stream: Stream, order: Order, now: datetime, policy: Policy, pending: int
) -> Step:
    """The next step of a stream; ``pending`` counts removals that wait for their round."""
    at_rest = stream.phase in (Phase.DELTA, Phase.HELD) and stream.next_link is None
    if pending and at_rest:
        return Step.SETTLE
    if not _wanted(stream, order, now):
        return Step.WAIT
    stream = allowed_again(stream)
    if stream.phase is Phase.LISTING:
        return Step.PAGE
    if stream.phase is Phase.SWEEPING:
        return Step.SWEEP
    if not stream.follows_delta:
        return _first_step(stream)
    if stream.next_link is not None:
        return Step.PAGE
    if _is_spent(stream, now, policy) or _caught_up(stream, order, now):
        return _first_step(stream)
    return Step.PAGE


def allowed_again(stream: Stream) -> Stream:
    """A refused stream as it goes on: where it was refused, its cursor included."""
    if stream.phase is not Phase.REFUSED:
        return stream
    phase = stream.refused_phase or Phase.READY
    link = stream.next_link if phase is Phase.LISTING else stream.delta_link
    if link is None and phase in (Phase.LISTING, Phase.DELTA):
        phase = Phase.READY  # an earlier release dropped the cursor and left the phase
    reason = "waits for approval" if phase is Phase.HELD else None
    return replace(stream, phase=phase, refused_phase=None, reason=reason)


def _first_step(stream: Stream) -> Step:
    lists_first = stream.resource.kind is Kind.ENTITY and not stream.resource.children
    return Step.TOKEN if lists_first and stream.mode is Mode.PLAIN else Step.BEGIN


def _wanted(stream: Stream, order: Order, now: datetime) -> bool:
    if not order.covers(stream):
        return False
    if order.manual and (stream.fresh_at is None or stream.fresh_at < order.since):
        return True
    if order.manual and order.full and not _full_since(stream, order.since):
        return True
    if stream.due_at is None:
        return True
    return stream.due_at <= now


def _full_since(stream: Stream, since: datetime) -> bool:
    return stream.full_walk_at is not None and stream.full_walk_at >= since


def _is_spent(stream: Stream, now: datetime, policy: Policy) -> bool:
    """Whether the cursor is of no more use: too old, or made for other properties."""
    if stream.select_hash != select_hash(stream.resource, stream.left_out or ()):
        return True
    age = timedelta(days=policy.cursor_days)
    return stream.delta_link_at is None or now - stream.delta_link_at > age


def _caught_up(stream: Stream, order: Order, now: datetime) -> bool:
    """Whether a full walk is due and a round of changes began after it fell due.

    The round comes first, so that the walk finds what the deltas have missed, and no more.
    """
    since = _walk_due_since(stream, order, now)
    return since is not None and stream.fresh_at is not None and stream.fresh_at >= since


def _walk_due_since(stream: Stream, order: Order, now: datetime) -> datetime | None:
    if order.full and not _full_since(stream, order.since):
        return order.since
    overdue = stream.full_due_at is not None and stream.full_due_at <= now
    return stream.full_due_at if overdue else None


def compares(stream: Stream, order: Order, now: datetime, policy: Policy) -> bool:
    """Whether a full walk that begins now tells what the deltas have missed."""
    up_to_date = stream.phase is Phase.DELTA and stream.delta_link is not None
    return up_to_date and not _is_spent(stream, now, policy) and _caught_up(stream, order, now)


def tries_plain(stream: Stream, order: Order) -> bool:
    """Whether what was refused before is asked for again: ahead of every walk.

    The question travels with the opening ``$batch`` and costs next to nothing, and one passing
    refusal never leaves a stream with the poorer way for long. A search that was under way when
    a person asked is begun anew, as it can never be complete.
    """
    if stream.phase in (Phase.READY, Phase.HELD):
        return stream.mode is not Mode.PLAIN
    began = stream.walk_started_at
    older = order.manual and began is not None and began < order.since
    return stream.mode is Mode.SEARCH and older


def tries_all(stream: Stream, order: Order, now: datetime, policy: Policy) -> bool:
    """Whether a walk that begins now asks again for properties that were left out.

    So does each regular full walk; of what is always walked in full, one in as much time.
    """
    if not stream.left_out or stream.left_out_at is None:
        return False
    due = _walk_due_since(stream, order, now)
    age = timedelta(seconds=policy.full_walk_seconds)
    return now - stream.left_out_at > age or (due is not None and stream.left_out_at < due)


def select_hash(resource: Resource, without: Collection[str] = ()) -> str:
    """Digest of the properties asked for: Graph ties them into the cursor."""
    names = [name for name in resource.selected if name not in without]
    return hashlib.blake2b(",".join(names).encode(), digest_size=8).hexdigest()


def next_due(due: datetime | None, now: datetime, interval: float, jitter: float) -> datetime:
    """The previous due time plus the interval, so that the clock does not drift.

    ``jitter`` (0 to 1) spreads a stream that was far behind over a tenth of its interval.
    """
    step = timedelta(seconds=interval)
    if due is not None and due <= now < due + step:
        return due + step
    return now + step * (1 + 0.1 * (jitter - 0.5))


def due_after_round(stream: Stream, now: datetime, interval: float, jitter: float) -> datetime:
    """When a stream whose round has just ended is due: at once where a full walk follows."""
    if stream.full_due_at and stream.fresh_at and stream.full_due_at <= stream.fresh_at:
        return now
    return next_due(stream.due_at, now, interval, jitter)
