"""How a stream's state changes when a walk begins or something goes wrong. Pure."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from models.change_event import ChangeKind
from models.resource import Kind, Resource
from models.stream import Mode, Phase
from worker.core.errors import Refused
from worker.nango.reply import LONGEST_PAUSE
from worker.store.change import Change
from worker.store.streams import Stream
from worker.sync.plan import MAX_RESTARTS, select_hash
from worker.sync.walk import first_link

REFUSED_PAUSE: Final = 3600.0
RESTART_PAUSE: Final = 3600.0
NOT_OFFERED: Final = frozenset({400, 404, 501})
"""Statuses with which Graph refuses what a tenant does not have, or a link that it cannot read."""

Drift = dict[str, dict[str, int]]
"""Changes of each kind, by resource."""


def begun(stream: Stream, moment: datetime, token: str | None, *, compares: bool = False) -> Stream:
    """A full walk begins: a new walk id, nothing seen; a token given now covers all of it.

    Where it ``compares``, what it changes is counted from here on, its restarts included.
    """
    unfinished = stream.drift if stream.restarts else None
    after = replace(
        _from_the_start(stream),
        phase=Phase.LISTING,
        next_link=first_link(stream),
        walk_started_at=moment,
        select_hash=stream.select_hash if _keeps_cursor(stream) else _selection(stream),
        drift=_nothing_missed(stream) if compares else unfinished,
        reason=None,
    )
    return replace(after, delta_link=token, delta_link_at=moment) if token else after


def _selection(stream: Stream) -> str:
    return select_hash(stream.resource, stream.left_out or ())


def _keeps_cursor(stream: Stream) -> bool:
    """Whether the cursor of before stays until the walk is complete, with its properties."""
    kept = bool(stream.resource.children) or stream.mode is Mode.LIST_ONLY
    return kept and stream.delta_link is not None


def _nothing_missed(stream: Stream) -> Drift:
    return {one.name: dict.fromkeys(map(str, ChangeKind), 0) for one in stream.carries}


def counted(stream: Stream, resource: Resource, changes: Iterable[Change]) -> Stream:
    """Add what a walk that compares has changed to what the deltas had missed."""
    if stream.drift is None or stream.phase not in (Phase.LISTING, Phase.SWEEPING):
        return stream
    drift = {name: dict(counts) for name, counts in stream.drift.items()}
    counts = drift.setdefault(resource.name, dict.fromkeys(map(str, ChangeKind), 0))
    for change in changes:
        counts[change.kind.value] += 1
    return replace(stream, drift=drift)


def missed(stream: Stream, since: datetime, ended: Sequence[str]) -> Drift | None:
    """What the deltas had missed, where a walk that compares began ``since`` or has ``ended``."""
    under_way = stream.phase in (Phase.LISTING, Phase.SWEEPING)
    recent = stream.full_walk_at is not None and stream.full_walk_at >= since
    return stream.drift if (recent or stream.name in ended) and not under_way else None


def resynced(stream: Stream, after: Stream) -> bool:
    """Whether a full walk that has just ended stood in for deltas that could not be followed.

    The cursor was lost, too old, or made for other properties. Not a first load, nor a walk whose
    deletions are in doubt, nor one that was only to find what the deltas had missed.
    """
    done = not stream.incomplete and not after.is_held and after.follows_delta
    return done and not stream.initial and stream.drift is None


def _from_the_start(stream: Stream) -> Stream:
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


def restarted(stream: Stream, moment: datetime) -> Stream | None:
    """The cursor is gone: a full walk is to begin; None once that was tried too often.

    A listing keeps the delta token that was taken before it, as that still covers a new one.
    """
    if stream.restarts >= MAX_RESTARTS:
        return None
    listing = stream.phase in (Phase.LISTING, Phase.SWEEPING)
    apart = not stream.resource.children or stream.mode is Mode.LIST_ONLY
    keeps = listing and stream.delta_link is not None and apart
    after = replace(
        _from_the_start(stream),
        restarts=stream.restarts + 1,
        due_at=moment,
        drift=stream.drift if listing else None,
    )
    if keeps:
        return begun(after, stream.walk_started_at or moment, None)
    return replace(after, phase=Phase.READY, delta_link=None)


def walked_again(stream: Stream, moment: datetime) -> Stream | None:
    """Graph refuses a page of a full walk: it begins again; None once that was tried too often.

    The delta cursor stays as it is: nothing was said about it.
    """
    if stream.restarts >= MAX_RESTARTS:
        return None
    after = replace(stream, restarts=stream.restarts + 1, due_at=moment)
    return begun(after, stream.walk_started_at or moment, None)


def another_way(stream: Stream, trouble: Refused, moment: datetime) -> Stream | None:
    """How else a refused resource can be read, if at all."""
    mode = _other_mode(stream, trouble.status)
    if mode is None:
        return None
    after = replace(_from_the_start(stream), mode=mode, phase=Phase.READY, due_at=moment)
    return replace(after, drift=None)


def _other_mode(stream: Stream, status: int) -> Mode | None:
    if stream.mode is not Mode.PLAIN:
        return None
    if stream.name == "role_assignments" and status == 400:
        return Mode.BY_DEFINITION
    if stream.name == "sites" and status in (400, 403, 404, 501):
        return Mode.SEARCH
    if stream.name in ("users", "groups") and status in NOT_OFFERED and _asks_delta(stream):
        return Mode.LIST_ONLY
    return None


def _asks_delta(stream: Stream) -> bool:
    """Whether what was refused was the start of a delta enumeration."""
    if stream.resource.children:
        return stream.phase is Phase.LISTING and stream.page_no == 0
    return stream.phase is not Phase.LISTING


def left_out(stream: Stream, names: Collection[str], moment: datetime) -> Stream:
    """Some properties are not known to the tenant's Graph: all is asked for without them.

    A cursor is bound to its properties: for others, a full walk brings a new one.
    """
    names = sorted({*(stream.left_out or ()), *names})
    after = replace(stream, left_out=names, left_out_at=moment, due_at=moment)
    if stream.phase is Phase.LISTING and not _lists_behind_token(stream):
        since = stream.walk_started_at or moment
        return begun(after, since, None, compares=stream.drift is not None)
    resting = stream.phase if stream.phase in (Phase.DELTA, Phase.HELD) else Phase.READY
    return replace(_from_the_start(after), phase=resting)


def _lists_behind_token(stream: Stream) -> bool:
    """Whether a token is taken ahead of each listing; it is bound to properties, too."""
    entity = stream.resource.kind is Kind.ENTITY and not stream.resource.children
    return entity and stream.mode is Mode.PLAIN


def walked_instead(stream: Stream) -> Stream:
    """A full walk takes the place of a round that cannot be finished, and brings a new cursor."""
    return replace(_from_the_start(stream), phase=Phase.READY, select_hash=None, drift=None)


def tried_plain(stream: Stream) -> Stream:
    """The plain way is tried again: from the cursor that was kept, where there is one."""
    resting = Phase.DELTA if stream.delta_link else Phase.READY
    return replace(stream, mode=Mode.PLAIN, phase=Phase.HELD if stream.is_held else resting)


def listed_instead(stream: Stream, moment: datetime) -> Stream:
    """The tenant no longer offers delta: lists take its place, and the cursor waits."""
    after = replace(_from_the_start(stream), mode=Mode.LIST_ONLY, phase=Phase.READY)
    return replace(after, due_at=moment, drift=None)


def refused(stream: Stream, moment: datetime, trouble: Refused) -> Stream:
    """Not permitted: marked, and tried again after a pause.

    A stream with a cursor goes on from it; without one it begins again in the plain way.
    """
    if _has_place(stream):
        after = replace(stream, phase=Phase.REFUSED, refused_phase=stream.phase)
    else:
        after = replace(_from_the_start(stream), phase=Phase.REFUSED, refused_phase=None)
        after = replace(after, mode=Mode.PLAIN, drift=None)
    return postponed(after, moment, REFUSED_PAUSE, trouble.message)


def _has_place(stream: Stream) -> bool:
    """Whether there is somewhere to go on from: a cursor, or a plain walk under way."""
    under_way = stream.phase in (Phase.LISTING, Phase.SWEEPING) and stream.page_no > 0
    return stream.delta_link is not None or (under_way and stream.mode is not Mode.SEARCH)


def postponed(stream: Stream, moment: datetime, seconds: float, reason: str) -> Stream:
    """The stream waits where it is, and says why."""
    pause = timedelta(seconds=min(seconds, LONGEST_PAUSE))
    return replace(stream, due_at=moment + pause, reason=reason)


def released(stream: Stream) -> Stream:
    """Nothing is held any more."""
    resting = Phase.DELTA if stream.follows_delta else Phase.READY
    return replace(stream, phase=resting, reason=None)
