"""Choose a stream's page size: smaller pages where Graph times out. Pure functions.

A size is halved once the attempts at a page are used up, and doubled at most once a day, by a walk
that begins after one has ended at the smaller size. A next link is bound to its walk's page size,
so a change of size restarts the walk.
"""

import re
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from models.stream import Phase
from worker.core.errors import MirrorError, ResourceRefused, RetryLater
from worker.store.state.streams import Stream
from worker.sync.sources.lists_below import shrink_lists
from worker.sync.sources.members import parse_member_cursor, shrink_member_pages
from worker.sync.sources.pages import DEFAULT_PAGE_SIZE
from worker.sync.state import replace_round_by_walk, start_walk, switch_to_lists

MIN_PAGE_SIZE: Final = 1
"""The smallest page: if Graph times out on one object, the size is not the cause."""

MIN_PAGE_SIZE_WITH_MEMBERS: Final = 25
"""Fewest groups on a page with their members.

Below this, listing the groups first and then their members, twenty groups to a call, costs no more
calls, and each response stays small however large a group is.
"""

MIDWALK_ATTEMPTS: Final = 3
"""Slices in a row that must fail at one page before the walk restarts with smaller pages."""

GROWTH_INTERVAL: Final = timedelta(days=1)
"""Time between two increases of a page size."""

STALE_ROUND_AGE: Final = timedelta(days=1)
"""Age at which a round that cannot be finished is replaced by a full walk with smaller pages."""

MEMBER_LISTS_PERIOD: Final = timedelta(days=7)
"""How long members are read by list before groups are requested with their members again."""

_ABOUT_SIZE: Final = re.compile(r"page ?size|\$?\btop\b|maxpagesize|page limit", re.IGNORECASE)
_SIZE_LIMIT: Final = re.compile(
    r"(?:between \d+ and|max(?:imum)?\D{0,40}|at most|up to|less than or equal to|exceeds?\D{0,20})"
    r" ?(\d+)",
    re.IGNORECASE,
)


def get_page_size(stream: Stream) -> int:
    """Return how many objects are requested, or expected, on a page."""
    if stream.page_size is not None:
        return stream.page_size
    usual = None if stream.source.walks_by_delta else stream.source.page_size
    return usual or DEFAULT_PAGE_SIZE


def is_page_too_large(stream: Stream, error: MirrorError) -> bool:
    """Whether an error means that the page is too large for Graph."""
    if not _has_page_size(stream):
        return False
    if isinstance(error, RetryLater):
        return error.needs_smaller_request and not error.has_retry_after
    return _find_size_limit(stream, error) is not None


def _has_page_size(stream: Stream) -> bool:
    """Whether the stream reads pages whose size it can choose."""
    if not stream.source.select:
        return False
    return stream.phase is Phase.LISTING or (stream.follows_delta and stream.phase is Phase.DELTA)


def _find_size_limit(stream: Stream, error: MirrorError) -> int | None:
    """Return the page size to try if Graph refuses the requested one, else None."""
    if not isinstance(error, ResourceRefused) or error.status != 400:
        return None
    if stream.phase is not Phase.LISTING or not _ABOUT_SIZE.search(error.graph_message):
        return None
    size = get_page_size(stream)
    limits = [int(number) for number in _SIZE_LIMIT.findall(error.graph_message) if len(number) < 9]
    return max((one for one in limits if MIN_PAGE_SIZE <= one < size), default=size // 2)


def has_exhausted_attempts(stream: Stream, error: MirrorError, now: datetime) -> bool:
    """Whether a page that is too large was tried often enough to request smaller ones.

    At the start of a walk, or while it reads members, a restart loses nothing. Later in a walk
    Graph has answered pages of this size, and a delta round is not given up for a transient fault.
    """
    if isinstance(error, ResourceRefused):
        return True
    if stream.phase is Phase.DELTA:
        return stream.fresh_at is not None and now - stream.fresh_at > STALE_ROUND_AGE
    if stream.source.below or parse_member_cursor(stream.next_link) is not None:
        return True
    return stream.page_no == 0 or stream.slow_pages + 1 >= MIDWALK_ATTEMPTS


def shrink_page(stream: Stream, error: MirrorError, moment: datetime) -> Stream | None:
    """Return the stream with smaller pages, or None if they cannot be smaller."""
    size = _find_size_limit(stream, error) or get_page_size(stream) // 2
    if stream.source.walks_by_delta and size < MIN_PAGE_SIZE_WITH_MEMBERS:
        apart = switch_to_lists(stream, moment)
        return replace(apart, page_size=None, page_size_at=moment, slow_pages=0)
    if size < MIN_PAGE_SIZE:
        return None
    after = replace(stream, page_size=size, page_size_at=moment, slow_pages=0, due_at=moment)
    if stream.phase is Phase.DELTA:
        return replace_round_by_walk(after)
    if parse_member_cursor(stream.next_link) is not None:
        link = shrink_member_pages(stream.next_link or "", stream.carried_edges, size)
        return replace(after, next_link=link)
    if stream.source.below:
        return replace(after, next_link=shrink_lists(after, stream.next_link or ""))
    since = stream.walk_started_at or moment
    return start_walk(after, since, None, is_drift_measured=stream.drift is not None)


def grow_page(stream: Stream, now: datetime) -> Stream:
    """Return the stream for a new walk, with larger pages if it is time to try them."""
    at, size = stream.page_size_at, stream.page_size
    if size is None or at is None or now - at < GROWTH_INTERVAL:
        return stream
    if stream.full_walk_at is None or stream.full_walk_at < at:
        return stream
    usual = get_page_size(replace(stream, page_size=None))
    return replace(stream, page_size=2 * size if 2 * size < usual else None, page_size_at=now)


def is_listing_members(stream: Stream, now: datetime) -> bool:
    """Whether members are read by list because pages of groups with members were too large."""
    at = stream.page_size_at
    return (
        stream.source.relations_apart
        and stream.page_size is None
        and at is not None
        and now - at < MEMBER_LISTS_PERIOD
    )
