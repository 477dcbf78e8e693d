"""How many objects a stream asks for on a page, and what makes it fewer or more."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from models.resources import RESOURCES
from models.stream import Mode, Phase
from worker.core.errors import Later, Refused, Trouble
from worker.store.streams import Stream
from worker.sync.members import FIRST, Place, place_of
from worker.sync.page_size import (
    ATTEMPTS_ON_THE_WAY,
    SMALLEST_WITH_MEMBERS,
    grown,
    is_too_large,
    is_used_up,
    reads_members_apart,
    shrunk,
    size_of,
)
from worker.sync.transitions import begun

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
TOKEN = "https://graph.microsoft.com/v1.0/users/delta?$deltatoken=a"


def listing(name: str = "users", **values: Any) -> Stream:
    return replace(begun(Stream(resource=RESOURCES[name], **values), NOW, None))


def slow() -> Later:
    trouble = Later("Graph answered 504", after=30.0)
    trouble.slow = True
    return trouble


def refusal(said: str) -> Refused:
    trouble = Refused("Graph answers 400 Request_BadRequest")
    trouble.status, trouble.said = 400, said
    return trouble


def sizes(stream: Stream, trouble: Trouble) -> list[int]:
    """All sizes that are tried one after another."""
    found = []
    after: Stream | None = stream
    while after is not None and after.mode is stream.mode:
        found.append(size_of(after))
        after = shrunk(after, trouble, NOW)
    return found


def test_a_size_is_halved_down_to_one_object() -> None:
    assert sizes(listing(), slow()) == [999, 499, 249, 124, 62, 31, 15, 7, 3, 1]


def test_a_walk_begins_again_with_the_smaller_size_and_keeps_its_token() -> None:
    before = replace(listing(), delta_link=TOKEN, delta_link_at=NOW, page_no=7)
    after = shrunk(before, slow(), NOW)
    assert after is not None
    assert (after.page_no, after.delta_link, after.page_size) == (0, TOKEN, 499)
    assert after.walk_id > before.walk_id
    assert after.next_link is not None
    assert after.next_link.endswith("&$top=499")


def test_groups_with_members_are_read_by_list_at_last() -> None:
    before = listing("groups")
    assert sizes(before, slow()) == [200, 100, 50, 25]
    small = replace(before, page_size=SMALLEST_WITH_MEMBERS)
    after = shrunk(small, slow(), NOW)
    assert after is not None
    assert (after.mode, after.page_size) == (Mode.LIST_ONLY, None)
    assert reads_members_apart(after, NOW + timedelta(days=6))
    assert not reads_members_apart(after, NOW + timedelta(days=8))
    assert not reads_members_apart(replace(after, page_size_at=None), NOW), "it has no delta"


def test_pages_of_members_become_smaller_where_the_walk_is() -> None:
    """What has been read stays; groups under way are read again from their start."""
    place = Place("00000000-0000-0000-0000-000000000007", {"g1": "https://graph.../members?x"})
    before = replace(listing("groups", mode=Mode.LIST_ONLY), next_link=place.link, page_no=4)
    after = shrunk(before, slow(), NOW)
    assert after is not None
    assert (after.walk_id, after.page_no, after.page_size) == (before.walk_id, 4, 499)
    now = place_of(after.next_link)
    assert now is not None
    assert now.after == place.after
    assert now.under_way["g1"].endswith("/groups/g1/members?$select=id&$top=499")
    first = shrunk(replace(before, next_link=FIRST), slow(), NOW)
    assert first is not None
    assert first.next_link == FIRST


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
    assert is_too_large(listing(), refusal(said))
    after = shrunk(listing(), refusal(said), NOW)
    assert after is not None
    assert after.page_size == size


@pytest.mark.parametrize(
    ("stream", "trouble"),
    [
        (listing(), refusal("Could not find a property named 'x'")),
        (listing(), refusal("Stop")),
        (listing(), Later("Graph answered 429", after=30.0)),
        (listing("role_assignments"), slow()),
        (replace(listing(), phase=Phase.SWEEPING), slow()),
        (replace(listing(), phase=Phase.READY), slow()),
    ],
)
def test_other_troubles_are_not_about_the_size(stream: Stream, trouble: Trouble) -> None:
    assert not is_too_large(stream, trouble)


def test_a_page_on_the_way_is_tried_in_several_slices() -> None:
    before = replace(listing(), page_no=3)
    tries = [replace(before, slow_pages=n) for n in range(ATTEMPTS_ON_THE_WAY)]
    assert [is_used_up(one, slow(), NOW) for one in tries] == [False, False, True]
    assert is_used_up(listing(), slow(), NOW)


def test_a_round_is_given_up_for_a_walk_only_after_a_day() -> None:
    cursor = Stream(
        resource=RESOURCES["groups"], phase=Phase.DELTA, delta_link=TOKEN, fresh_at=NOW, walk_id=3
    )
    assert not is_used_up(cursor, slow(), NOW + timedelta(hours=23))
    assert is_used_up(cursor, slow(), NOW + timedelta(hours=25))
    after = shrunk(cursor, slow(), NOW)
    assert after is not None
    assert (after.phase, after.page_size, after.delta_link) == (Phase.READY, 100, TOKEN)
    assert after.select_hash is None, "so that a walk brings another cursor"


def test_a_size_grows_slowly_after_a_walk_has_ended_with_it() -> None:
    small = Stream(resource=RESOURCES["users"], page_size=100, page_size_at=NOW)
    later = NOW + timedelta(days=2)
    assert grown(small, later) == small, "no walk has ended since"
    walked = replace(small, full_walk_at=NOW + timedelta(minutes=1))
    assert grown(walked, NOW + timedelta(hours=23)) == walked
    after = grown(walked, later)
    assert (after.page_size, after.page_size_at) == (200, later)
    assert grown(replace(walked, page_size=600), later).page_size is None, "the usual size"
    assert grown(replace(walked, page_size=None), later).page_size is None
