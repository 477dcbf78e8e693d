"""The changes of a stream's state when a walk begins or fails. Pure functions."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from models.change_event import ChangeKind
from models.resource import Resource
from models.source import Source
from models.stream import Nesting, Phase
from worker.core.errors import NotLicensed, ResourceRefused
from worker.core.net.retry_after import MAX_RETRY_AFTER
from worker.store.mirror.change import Change
from worker.store.state.streams import Stream
from worker.sync.plan import MAX_RESTARTS, compute_select_hash
from worker.sync.sources.pages import build_first_link

REFUSED_PAUSE: Final = 3600.0
NOT_LICENSED_PAUSE: Final = 86_400.0
"""Seconds until a resource is requested again for which the tenant has no licence."""

RESTART_PAUSE: Final = 3600.0
NOT_OFFERED_STATUSES: Final = frozenset({400, 404, 501})
"""Statuses for features that the tenant lacks, or for links that Graph cannot read."""

NESTING_PAUSE: Final = timedelta(days=1)
"""Between two attempts at a closure that was too large: one reads all nested edges."""

Drift = dict[str, dict[str, int]]
"""Count of each kind of change, by resource."""


def start_walk(
    stream: Stream, moment: datetime, token: str | None, *, is_drift_measured: bool = False
) -> Stream:
    """Return the stream at the start of a full walk: a new walk id, no rows seen.

    A ``token`` given now covers the whole walk. With ``is_drift_measured``, the walk's changes are
    counted from here on, its restarts included.
    """
    unfinished = stream.drift if stream.restarts else None
    after = replace(
        _reset_walk(stream),
        phase=Phase.LISTING,
        next_link=build_first_link(stream),
        walk_started_at=moment,
        asked_columns=stream.current_columns,
        select_hash=stream.select_hash
        if _should_keep_cursor(stream)
        else _compute_select_hash(stream),
        drift=_build_empty_drift(stream) if is_drift_measured else unfinished,
        reason=None,
    )
    return replace(after, delta_link=token, delta_link_at=moment) if token else after


def _compute_select_hash(stream: Stream) -> str:
    return compute_select_hash(stream.resource, stream.without)


def _should_keep_cursor(stream: Stream) -> bool:
    """Whether the previous cursor and its properties are kept until the walk is complete."""
    return not stream.source.takes_token and stream.delta_link is not None


def _build_empty_drift(stream: Stream) -> Drift:
    return {one.name: dict.fromkeys(map(str, ChangeKind), 0) for one in stream.carried_resources}


def add_drift(stream: Stream, resource: Resource, changes: Iterable[Change]) -> Stream:
    """Add the changes of a walk that measures drift to the stream's drift."""
    if stream.drift is None or stream.phase not in (Phase.LISTING, Phase.SWEEPING):
        return stream
    altered = list(changes)
    if not altered:
        return stream
    drift = {name: dict(counts) for name, counts in stream.drift.items()}
    counts = drift.setdefault(resource.name, dict.fromkeys(map(str, ChangeKind), 0))
    for change in altered:
        counts[change.kind.value] += 1
    return replace(stream, drift=drift)


def get_drift(stream: Stream, since: datetime, ended_streams: Sequence[str]) -> Drift | None:
    """Return the changes that the deltas had missed.

    None unless a walk that measures drift began after ``since``, or its stream is in
    ``ended_streams``.
    """
    under_way = stream.phase in (Phase.LISTING, Phase.SWEEPING)
    recent = stream.full_walk_at is not None and stream.full_walk_at >= since
    return stream.drift if (recent or stream.name in ended_streams) and not under_way else None


def should_compute_nesting(stream: Stream, edge: Resource, now: datetime) -> bool:
    """Whether the end of a round has to compute the closure of an edge.

    It is not known after an upgrade, and after an earlier release has written. One that was too
    large is tried again once a day.
    """
    if stream.phase is Phase.LISTING or stream.is_first_read(edge):
        return False
    if stream.nesting is Nesting.TOO_LARGE:
        return stream.nesting_at is None or now - stream.nesting_at >= NESTING_PAUSE
    return stream.nesting is None


def is_resync(stream: Stream, after: Stream) -> bool:
    """Whether a full walk that has just ended replaced deltas that could not be followed.

    The cursor was lost, too old, or bound to other properties. False for a first load, for a walk
    that is incomplete or whose deletions are held, and for one that only measured drift.
    """
    done = not stream.incomplete and not after.is_held and after.follows_delta
    return done and not stream.is_initial and stream.drift is None


def _reset_walk(stream: Stream) -> Stream:
    return replace(
        stream,
        walk_id=stream.walk_id + 1,
        page_no=0,
        next_link=None,
        seen_count=0,
        loop_mark=None,
        body_digest=None,
        body_repeats=0,
        incomplete=False,
        parts=None,
    )


def restart_walk(stream: Stream, moment: datetime) -> Stream | None:
    """Return the stream for a new full walk after its cursor expired.

    None if that was tried too often. A listing keeps the delta token that was taken before it, as
    that still covers a new one.
    """
    if stream.restarts >= MAX_RESTARTS:
        return None
    listing = stream.phase in (Phase.LISTING, Phase.SWEEPING)
    keeps = listing and stream.delta_link is not None and not stream.source.walks_by_delta
    after = replace(
        _reset_walk(stream),
        restarts=stream.restarts + 1,
        due_at=moment,
        drift=stream.drift if listing else None,
    )
    if keeps:
        return start_walk(after, stream.walk_started_at or moment, None)
    return replace(after, phase=Phase.READY, delta_link=None)


def repeat_walk(stream: Stream, moment: datetime) -> Stream | None:
    """Return the stream with its walk restarted, after Graph refused one of its pages.

    None if that was tried too often. The delta cursor stays: the refusal was not about it.
    """
    if stream.restarts >= MAX_RESTARTS:
        return None
    after = replace(stream, restarts=stream.restarts + 1, due_at=moment)
    return start_walk(after, stream.walk_started_at or moment, None)


def switch_mode(stream: Stream, error: ResourceRefused, moment: datetime) -> Stream | None:
    """Return the stream in another mode that can read a refused resource, or None."""
    if stream.uses_fallback:
        return None
    other = stream.resource.find_fallback(error.status, at_delta_start=_is_delta_start(stream))
    return _switch_source(stream, other, moment) if other else None


def _switch_source(stream: Stream, source: Source, moment: datetime) -> Stream:
    after = replace(_reset_walk(stream), mode=source.mode, phase=Phase.READY)
    return replace(after, due_at=moment, drift=None)


def _is_delta_start(stream: Stream) -> bool:
    """Whether the refused request was the start of a delta enumeration."""
    if stream.source.walks_by_delta:
        return stream.phase is Phase.LISTING and stream.page_no == 0
    return stream.phase is not Phase.LISTING


def leave_out_properties(stream: Stream, names: Collection[str], moment: datetime) -> Stream:
    """Return the stream without properties that the tenant's Graph does not know.

    A cursor is bound to its properties, and so is a token that is taken before a listing. Graph
    would refuse this one again, so it is given up: a full walk brings a new one.
    """
    names = sorted({*(stream.left_out or ()), *names})
    after = replace(stream, left_out=names, left_out_at=moment, due_at=moment, select_hash=None)
    if stream.phase is Phase.LISTING and not stream.source.takes_token:
        since = stream.walk_started_at or moment
        return start_walk(after, since, None, is_drift_measured=stream.drift is not None)
    resting = stream.phase if stream.phase in (Phase.DELTA, Phase.HELD) else Phase.READY
    return replace(_reset_walk(after), phase=resting)


def replace_round_by_walk(stream: Stream) -> Stream:
    """Return the stream for a full walk instead of a round that cannot be finished.

    The walk brings a new cursor.
    """
    return replace(_reset_walk(stream), phase=Phase.READY, select_hash=None, drift=None)


def return_to_plain(stream: Stream) -> Stream:
    """Return the stream in plain mode, with the cursor that was kept, if any."""
    resting = Phase.DELTA if stream.delta_link else Phase.READY
    return replace(
        stream, mode=stream.resource.source.mode, phase=Phase.HELD if stream.is_held else resting
    )


def switch_to_lists(stream: Stream, moment: datetime) -> Stream:
    """Return the stream in list mode, as the tenant no longer offers delta; the cursor is kept."""
    return _switch_source(stream, stream.resource.listing, moment)


def mark_refused(stream: Stream, moment: datetime, error: ResourceRefused) -> Stream:
    """Return the stream as refused, to be tried again after a pause.

    A stream with a cursor continues from it; without one it restarts in plain mode.
    """
    if _can_continue(stream):
        after = replace(stream, phase=Phase.REFUSED, refused_phase=stream.phase)
    else:
        after = replace(_reset_walk(stream), phase=Phase.REFUSED, refused_phase=None)
        after = replace(after, mode=stream.resource.source.mode, drift=None)
    return postpone(after, moment, _compute_refused_pause(stream, moment, error), error.message)


def _compute_refused_pause(stream: Stream, moment: datetime, error: ResourceRefused) -> float:
    """Return the seconds until a refused stream is tried again.

    A missing licence is bought once in years. Graph says so at times of tenants that have it,
    though, for minutes or hours; rows that were read within the last day show that this is one.
    """
    if not isinstance(error, NotLicensed):
        return REFUSED_PAUSE
    fresh_at = stream.fresh_at
    was_read = fresh_at is not None and moment - fresh_at < timedelta(seconds=NOT_LICENSED_PAUSE)
    return REFUSED_PAUSE if was_read else NOT_LICENSED_PAUSE


def _can_continue(stream: Stream) -> bool:
    """Whether the stream has a position to continue from: a cursor, or a walk under way."""
    under_way = stream.phase in (Phase.LISTING, Phase.SWEEPING) and stream.page_no > 0
    return stream.delta_link is not None or (under_way and not stream.source.best_effort)


def postpone(stream: Stream, moment: datetime, seconds: float, reason: str) -> Stream:
    """Return the stream with a later due time and the reason."""
    pause = timedelta(seconds=min(seconds, MAX_RETRY_AFTER))
    return replace(stream, due_at=moment + pause, reason=reason)


def release_hold(stream: Stream) -> Stream:
    """Return the stream without a hold."""
    resting = Phase.DELTA if stream.follows_delta else Phase.READY
    return replace(stream, phase=resting, reason=None)
