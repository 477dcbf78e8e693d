"""The changes of a stream's state when a page is loaded, and when a walk or round ends. Pure.

``state`` has those of a walk that begins or fails.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from models.stream import Phase
from worker.core.errors import CursorExpired, MalformedResponse
from worker.graph.page import Page
from worker.store.state.streams import Stream
from worker.sync.plan import compute_due_after_round, compute_next_due, compute_select_hash
from worker.sync.policy import Policy

MAX_WALK_PAGES: Final = 100_000
MAX_REPEATS: Final = 3
"""Equal pages in a row that end a walk."""

INCOMPLETE_PAUSE: Final = timedelta(hours=1)


def advance_page(
    stream: Stream, page: Page, moment: datetime, policy: Policy, jitter: float
) -> Stream:
    """Return the stream after a page is loaded in a slice that began at ``moment``.

    Raises CursorExpired (the next links form a loop), MalformedResponse (the last page of a delta
    enumeration has no delta link).
    """
    after = replace(
        stream,
        page_no=stream.page_no + 1,
        next_link=page.next_link,
        seen_count=stream.seen_count + page.count,
        body_digest=page.digest or stream.body_digest,
        body_repeats=count_repeats(stream, page),
        loop_mark=choose_loop_mark(stream, page),
        slow_pages=0,
        incomplete=stream.incomplete or has_unknown_objects(page),
        walk_started_at=(None if _begins(stream) else stream.walk_started_at) or moment,
        reason=stream.reason if stream.is_held else None,
    )
    if not page.is_last:
        return after
    if stream.phase is Phase.LISTING:
        return complete_walk(after, page.delta_link, moment)
    return complete_round(after, page.delta_link, moment, policy, jitter)


def _begins(stream: Stream) -> bool:
    """Whether a walk or round begins with its first page; lists below others began before."""
    return stream.page_no == 0 and not stream.source.below


def has_unknown_objects(page: Page) -> bool:
    """Whether the page held objects that cannot be identified: then absence proves nothing."""
    return page.skipped > 0 or any(one.key is None for one in page.rejects)


def complete_walk(after: Stream, delta_link: str | None, moment: datetime) -> Stream:
    """Return the stream at the end of a walk; ``sweeping`` is committed with the last page."""
    if after.source.walks_by_delta and delta_link is None:
        raise MalformedResponse("Graph ended a delta enumeration without a delta link", after=600)
    ended = replace(after, phase=Phase.SWEEPING, next_link=None)
    if delta_link is None:
        return ended
    current = compute_select_hash(after.resource, after.without)
    return replace(
        ended,
        delta_link=delta_link,
        delta_link_at=moment,
        # The cursor is bound to what the walk has asked for from its start.
        select_hash=after.select_hash if after.is_asking_for_others else current,
    )


def complete_round(
    after: Stream, delta_link: str | None, moment: datetime, policy: Policy, jitter: float
) -> Stream:
    """Return the stream at the end of a round, with the cursor of the next one."""
    if delta_link is None:
        raise MalformedResponse("Graph ended a delta round without a delta link", after=600)
    after = replace(
        after,
        walk_id=after.walk_id + 1,
        page_no=0,
        next_link=None,
        delta_link=delta_link,
        delta_link_at=moment,
        seen_count=0,
        loop_mark=None,
        body_digest=None,
        body_repeats=0,
        restarts=0,
        fresh_at=after.walk_started_at,
    )
    due = compute_due_after_round(after, moment, policy.get_interval(after), jitter)
    return replace(after, due_at=due)


def count_repeats(stream: Stream, page: Page) -> int:
    """Return how often one page came in a row. Raises CursorExpired if next links form a loop."""
    same = bool(page.digest) and page.digest == stream.body_digest
    repeats = stream.body_repeats + 1 if same else 0
    if page.next_link is None:
        return repeats
    circling = (
        page.next_link in (stream.next_link, stream.loop_mark)
        or repeats >= MAX_REPEATS - 1
        or stream.page_no >= MAX_WALK_PAGES
    )
    if circling:
        raise CursorExpired("Graph's next links form a cycle; the walk restarts")
    return repeats


def choose_loop_mark(stream: Stream, page: Page) -> str | None:
    """Return the link of page 1, 2, 4, 8 ...; meeting it again is a loop (Brent's algorithm)."""
    number = stream.page_no + 1
    return page.next_link if number & (number - 1) == 0 else stream.loop_mark


def end_walk(
    stream: Stream,
    moment: datetime,
    policy: Policy,
    jitter: float,
    *,
    hold_reasons: Mapping[str, str],
    needs_walk: bool,
) -> Stream:
    """Return the stream after a swept walk: on to deltas, or to the next snapshot.

    ``hold_reasons`` say, by resource, which deletions wait for approval. With ``needs_walk``, the
    next full walk comes as early as after a first load, as this one left something in doubt.
    """
    resting = Phase.DELTA if stream.follows_delta else Phase.READY
    after = replace(stream, page_no=0, walk_id=stream.walk_id + 1, next_link=None, parts=None)
    after = replace(after, seen_count=0, loop_mark=None, body_digest=None, body_repeats=0)
    after = replace(after, asked_columns=None)
    if stream.incomplete:
        reason = "Graph sent an object without a readable id, so nothing was swept"
        again = moment + INCOMPLETE_PAUSE
        return replace(
            after, phase=resting, incomplete=False, due_at=again, full_due_at=again, reason=reason
        )
    is_soon = stream.is_initial or needs_walk
    gap = policy.get_full_walk_interval(stream)
    if is_soon:
        gap = min(gap, policy.first_full_walk_seconds)
    due = compute_next_due(stream.due_at, moment, policy.get_interval(stream), jitter)
    if stream.follows_delta and stream.source.takes_token:
        due = moment
    held = "; ".join(f"{name}: {why}" for name, why in hold_reasons.items())
    return replace(
        after,
        phase=Phase.HELD if held else resting,
        restarts=0,
        first_complete_at=stream.first_complete_at or moment,
        full_walk_at=stream.walk_started_at,
        full_walk_count=stream.seen_count,
        walked_columns=_list_walked_columns(stream),
        fresh_at=stream.walk_started_at,
        due_at=due,
        full_due_at=moment + timedelta(seconds=gap * (0.9 + 0.2 * jitter)),
        reason=f"waits for approval: {held}" if held else _explain_best_effort(stream),
    )


def _list_walked_columns(stream: Stream) -> list[str]:
    """Return what the walk has brought: not what the settings have left out since it began."""
    asked, current = stream.asked_columns, stream.current_columns
    if asked is None:
        return current
    dropped = set(stream.dropped or ())
    columns = stream.resource.columns_of(dropped) if dropped else 0
    gone = {name for i, name in enumerate(stream.resource.column_names) if columns >> i & 1}
    return [name for name in asked if name not in gone | dropped]


def _explain_best_effort(stream: Stream) -> str | None:
    why = stream.source.best_effort
    return f"best effort: {why}" if why else None
