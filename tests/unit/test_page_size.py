"""How many objects a stream asks for on a page, and what makes it fewer or more."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from models.resources import RESOURCES
from models.source import Mode
from models.stream import Phase
from worker.core.errors import MirrorError, ResourceRefused, RetryLater
from worker.store.state.streams import Stream
from worker.sync.page_size import (
    MIDWALK_ATTEMPTS,
    MIN_PAGE_SIZE_WITH_MEMBERS,
    get_page_size,
    grow_page,
    has_exhausted_attempts,
    is_listing_members,
    is_page_too_large,
    shrink_page,
)
from worker.sync.sources.members import FIRST_MEMBER_LINK, MemberCursor, parse_member_cursor
from worker.sync.state import start_walk

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
TOKEN = "https://graph.microsoft.com/v1.0/users/delta?$deltatoken=a"


def listing(name: str = "users", **values: Any) -> Stream:
    return replace(start_walk(Stream(resource=RESOURCES[name], **values), NOW, None))


def slow() -> RetryLater:
    error = RetryLater("Graph answered 504", after=30.0)
    error.needs_smaller_request = True
    return error


def refusal(said: str) -> ResourceRefused:
    error = ResourceRefused("Graph answers 400 Request_BadRequest")
    error.status, error.graph_message = 400, said
    return error


def sizes(stream: Stream, error: MirrorError) -> list[int]:
    """All sizes that are tried one after another."""
    found = []
    after: Stream | None = stream
    while after is not None and after.mode is stream.mode:
        found.append(get_page_size(after))
        after = shrink_page(after, error, NOW)
    return found


def test_a_size_is_halved_down_to_one_object() -> None:
    assert sizes(listing(), slow()) == [999, 499, 249, 124, 62, 31, 15, 7, 3, 1]


def test_a_walk_begins_again_with_the_smaller_size_and_keeps_its_token() -> None:
    before = replace(listing(), delta_link=TOKEN, delta_link_at=NOW, page_no=7)
    after = shrink_page(before, slow(), NOW)
    assert after is not None
    assert (after.page_no, after.delta_link, after.page_size) == (0, TOKEN, 499)
    assert after.walk_id > before.walk_id
    assert after.next_link is not None
    assert after.next_link.endswith("&$top=499")


def test_groups_with_members_are_read_by_list_at_last() -> None:
    before = listing("groups")
    assert sizes(before, slow()) == [200, 100, 50, 25]
    small = replace(before, page_size=MIN_PAGE_SIZE_WITH_MEMBERS)
    after = shrink_page(small, slow(), NOW)
    assert after is not None
    assert (after.mode, after.page_size) == (Mode.LIST_ONLY, None)
    assert is_listing_members(after, NOW + timedelta(days=6))
    assert not is_listing_members(after, NOW + timedelta(days=8))
    assert not is_listing_members(replace(after, page_size_at=None), NOW), "it has no delta"


def test_pages_of_members_become_smaller_where_the_walk_is() -> None:
    """What has been read stays; groups under way are read again from their start."""
    place = MemberCursor(
        "00000000-0000-0000-0000-000000000007", {"g1": "https://graph.../members?x"}
    )
    before = replace(listing("groups", mode=Mode.LIST_ONLY), next_link=place.link, page_no=4)
    after = shrink_page(before, slow(), NOW)
    assert after is not None
    assert (after.walk_id, after.page_no, after.page_size) == (before.walk_id, 4, 499)
    now = parse_member_cursor(after.next_link)
    assert now is not None
    assert now.after == place.after
    assert now.under_way["g1"].endswith("/groups/g1/members?$select=id&$top=499")
    first = shrink_page(replace(before, next_link=FIRST_MEMBER_LINK), slow(), NOW)
    assert first is not None
    assert first.next_link == FIRST_MEMBER_LINK


@pytest.mark.parametrize(
    ("said", "size"),
    [
        ("Invalid page size specified: '999'. Must be between 1 and 500 inclusive.", 500),
        ("The limit of '120' for Top query has been exceeded by '999'. $top is too large", 499),
        ("The maximum page size is 100.", 100),
        ("Page size may be at most 50", 50),
        ("$top is too large", 499),
        ("The page size 999 exceeds the maximum of 2000000000000", 499),
    ],
)
def test_a_refused_size_is_the_one_that_graph_names_or_half(said: str, size: int) -> None:
    assert is_page_too_large(listing(), refusal(said))
    after = shrink_page(listing(), refusal(said), NOW)
    assert after is not None
    assert after.page_size == size


@pytest.mark.parametrize(
    ("stream", "error"),
    [
        (listing(), refusal("Could not find a property named 'x'")),
        (listing(), refusal("Stop")),
        (listing(), RetryLater("Graph answered 429", after=30.0)),
        (listing("role_assignments"), slow()),
        (replace(listing(), phase=Phase.SWEEPING), slow()),
        (replace(listing(), phase=Phase.READY), slow()),
    ],
)
def test_other_troubles_are_not_about_the_size(stream: Stream, error: MirrorError) -> None:
    assert not is_page_too_large(stream, error)


def test_a_page_on_the_way_is_tried_in_several_slices() -> None:
    before = replace(listing(), page_no=3)
    tries = [replace(before, slow_pages=n) for n in range(MIDWALK_ATTEMPTS)]
    assert [has_exhausted_attempts(one, slow(), NOW) for one in tries] == [False, False, True]
    assert has_exhausted_attempts(listing(), slow(), NOW)


def test_a_round_is_given_up_for_a_walk_only_after_a_day() -> None:
    cursor = Stream(
        resource=RESOURCES["groups"], phase=Phase.DELTA, delta_link=TOKEN, fresh_at=NOW, walk_id=3
    )
    assert not has_exhausted_attempts(cursor, slow(), NOW + timedelta(hours=23))
    assert has_exhausted_attempts(cursor, slow(), NOW + timedelta(hours=25))
    after = shrink_page(cursor, slow(), NOW)
    assert after is not None
    assert (after.phase, after.page_size, after.delta_link) == (Phase.READY, 100, TOKEN)
    assert after.select_hash is None, "so that a walk brings another cursor"


def test_a_size_grows_slowly_after_a_walk_has_ended_with_it() -> None:
    small = Stream(resource=RESOURCES["users"], page_size=100, page_size_at=NOW)
    later = NOW + timedelta(days=2)
    assert grow_page(small, later) == small, "no walk has ended since"
    walked = replace(small, full_walk_at=NOW + timedelta(minutes=1))
    assert grow_page(walked, NOW + timedelta(hours=23)) == walked
    after = grow_page(walked, later)
    assert (after.page_size, after.page_size_at) == (200, later)
    assert grow_page(replace(walked, page_size=600), later).page_size is None, "the usual size"
    assert grow_page(replace(walked, page_size=None), later).page_size is None
