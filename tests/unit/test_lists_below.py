"""Where a walk through lists below other objects is, and when it waits."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.resource import Resource
from models.resources import BELOW, RESOURCES
from models.stream import Phase
from models.switches import list_droppable
from models.unresolved import Part, PartKind
from worker.core.errors import RetryLater
from worker.graph.page import Page
from worker.store.state.streams import Stream
from worker.store.state.unresolved import describe_part
from worker.sync.page_size import shrink_page
from worker.sync.parents import explain_wait, hold_back
from worker.sync.sources.list_cursor import (
    FIRST_LIST_LINK,
    MAX_IDLE_PAGES,
    MAX_RESTARTS,
    ListCursor,
    ListPlace,
    parse_list_cursor,
)

NAME: Final = "other_app_role_assignments"
NOW: Final = datetime(2026, 11, 30, 12, tzinfo=UTC)
LISTS: Final = RESOURCES[NAME]
PARENTS: Final = Stream(
    resource=RESOURCES["service_principals"], phase=Phase.DELTA, first_complete_at=NOW
)
STREAM: Final = Stream(resource=LISTS, due_at=NOW, first_complete_at=NOW)


# ---- one list


def follow(pages: list[tuple[str, str]]) -> int | None:
    """Follow links of pages; return after how many a loop is found, None at the end."""
    place: ListPlace | None = ListPlace("start")
    for number, (link, digest) in enumerate(pages, 1):
        assert place is not None
        place = place.follow(link, digest)
        if place is None:
            return number
    return None


@given(st.lists(st.binary(min_size=1, max_size=8), unique=True, max_size=300), st.data())
def test_a_list_whose_pages_all_differ_is_read_to_its_end(
    digests: list[bytes], data: st.DataObject
) -> None:
    gaps = data.draw(st.sets(st.integers(0, 300), max_size=MAX_IDLE_PAGES))
    pages = [
        (f"link {number}", "" if number in gaps else digest.hex())
        for number, digest in enumerate(digests)
    ]
    assert follow(pages) is None


@given(st.integers(0, 40), st.integers(1, 30), st.booleans())
def test_a_list_that_repeats_itself_is_given_up(before: int, length: int, same_links: bool) -> None:
    """Whether its links come again or are always new, and however long it went on before."""
    pages = [(f"first {number}", f"p{number}") for number in range(before)]
    pages += [
        (f"loop {number % length if same_links else number}", f"q{number % length}")
        for number in range(600)
    ]
    assert (follow(pages) or 600) <= 4 * (before + length) + 4


def test_a_list_of_empty_pages_is_given_up() -> None:
    pages = [(f"link {number}", "") for number in range(100)]
    assert follow(pages) == MAX_IDLE_PAGES + 1
    assert follow([("start", "x")]) == 1, "a page that links to itself"


def test_a_list_whose_links_expire_starts_again_a_few_times() -> None:
    place: ListPlace | None = ListPlace("start")
    for number in range(MAX_RESTARTS):
        assert place is not None
        followed = place.follow(f"next {number}", f"page {number}")
        assert followed is not None
        place = followed.restart("start")
    assert place is not None
    assert place.restart("start") is None


# ---- the walk


@given(
    st.lists(st.uuids().map(str), unique=True, max_size=120),
    st.integers(1, 10**6),
    st.integers(1, 5),
)
def test_a_walk_reads_each_list_to_its_end_and_what_changed_meanwhile(
    parents: list[str], seed: int, longest: int
) -> None:
    """From the cursor alone, as another process may go on with it after any page."""
    parents, rng = sorted(parents), random.Random(seed)
    lengths = {one: rng.randrange(1, longest + 1) for one in parents}
    changed = [one for one in parents if rng.random() < 0.2]
    read: dict[str, int] = dict.fromkeys(parents, 0)
    link: str | None = FIRST_LIST_LINK
    while link is not None:
        cursor = parse_list_cursor(link)
        assert cursor is not None
        ahead = [one for one in (changed if cursor.is_second else parents) if one > cursor.after]
        begun = ahead[: cursor.free_slots]
        places = {**cursor.under_way, **{one: ListPlace("start") for one in begun}}
        assert len(places) <= 19
        under_way = {}
        for one, place in places.items():
            read[one] += 1
            if place.page_no + 1 < lengths[one]:
                followed = place.follow(f"next {place.page_no}", f"{one} {place.page_no}")
                assert followed is not None
                under_way[one] = followed
        following = cursor.find_next(begun, under_way)
        link = None if following is None else following.link
    assert read == {one: lengths[one] * (2 if one in changed else 1) for one in parents}


@pytest.mark.parametrize("link", [None, "https://graph.microsoft.com/v1.0/users", "members:{}"])
def test_other_links_are_no_place_in_such_a_walk(link: str | None) -> None:
    assert parse_list_cursor(link) is None


def test_smaller_pages_start_the_lists_under_way_again() -> None:
    parent = "00000000-0000-4000-8000-000000000001"
    cursor = ListCursor(parent, {parent: ListPlace("https://old", 3, "x")})
    walking = replace(STREAM, phase=Phase.LISTING, next_link=cursor.link, page_no=1)
    slow = RetryLater("Graph answered 504", after=30)
    slow.status, slow.needs_smaller_request = 504, True
    after = shrink_page(walking, slow, NOW)
    assert after is not None
    place = parse_list_cursor(after.next_link)
    assert place is not None
    assert (after.page_size, after.walk_id, place.after) == (499, walking.walk_id, parent)
    assert place.under_way[parent].link.endswith(f"/{parent}/appRoleAssignedTo{QUERY}&$top=499")
    assert place.under_way[parent].page_no == 0


QUERY: Final = "?$select=id,principalId,principalType,resourceId,appRoleId,createdDateTime"


def test_pages_of_several_lists_are_one_page() -> None:
    whole, one = Page(count=1, unchanged=["a"]), Page(count=3, skipped=1, unchanged=["b"])
    one.conflicts, one.faults = {"c"}, {"d": {"x": "odd"}}
    whole.add(one)
    assert (whole.count, whole.skipped, whole.unchanged) == (4, 1, ["a", "b"])
    assert (whole.conflicts, whole.faults, whole.next_link) == ({"c"}, {"d": {"x": "odd"}}, None)


# ---- waiting for the parents


@pytest.mark.parametrize(
    ("parents", "said"),
    [
        (PARENTS, None),
        (replace(PARENTS, phase=Phase.HELD), None),
        (replace(PARENTS, phase=Phase.LISTING), None),
        (replace(PARENTS, off_at=NOW), "which is switched off"),
        (replace(PARENTS, phase=Phase.REFUSED), "which Graph refuses"),
        (replace(PARENTS, first_complete_at=None), "which has not been read completely yet"),
    ],
)
def test_lists_wait_until_their_parents_can_be_relied_on(parents: Stream, said: str | None) -> None:
    why = explain_wait(parents)
    assert why == (said and f"needs service_principals, {said}")
    after = hold_back(STREAM, parents, NOW, is_wanted=True)
    assert (after.reason, after.due_at) == (why, NOW if why is None else None)
    assert hold_back(after, parents, NOW + timedelta(days=1), is_wanted=True) == after
    again = hold_back(after, PARENTS, NOW, is_wanted=True)
    assert again == replace(STREAM, due_at=after.due_at), "it goes on at once, with what it had"
    assert hold_back(STREAM, parents, NOW, is_wanted=False) == STREAM, "nothing is due yet"


def test_what_waits_keeps_its_own_reason_and_its_place() -> None:
    off = replace(PARENTS, off_at=NOW)
    refused = replace(
        STREAM, phase=Phase.REFUSED, reason="Graph answered 403", next_link="below:{}"
    )
    after = hold_back(refused, off, NOW, is_wanted=True)
    assert (after.reason, after.next_link, after.due_at) == (refused.reason, "below:{}", None)
    assert hold_back(replace(STREAM, off_at=NOW), off, NOW, is_wanted=False).reason is None


def test_what_waits_for_good_does_not_keep_its_connection_in_the_queue_of_first_loads() -> None:
    new = replace(STREAM, first_complete_at=None)
    off, loading = replace(PARENTS, off_at=NOW), replace(PARENTS, first_complete_at=None)
    assert hold_back(new, off, NOW, is_wanted=True).first_due_at == NOW
    assert hold_back(new, loading, NOW, is_wanted=True).first_due_at is None
    assert hold_back(STREAM, off, NOW, is_wanted=True).first_due_at is None


# ---- what follows from the declaration


@pytest.mark.parametrize(
    "resource", [one for some in BELOW.values() for one in some], ids=lambda one: one.name
)
def test_what_lists_depend_on_cannot_be_left_out(resource: Resource) -> None:
    below = resource.source.below
    assert below is not None
    assert resource.partition is not None
    assert resource.partition.graph_name not in list_droppable(resource)
    parents = RESOURCES[resource.partitioned_by]
    if below.omits:
        column = next(one for one in parents.columns if one.name == below.omits.column)
        assert column.graph_name not in list_droppable(parents)


def test_a_list_that_is_not_answered_is_named_in_words() -> None:
    part = Part(NAME, PartKind.LIST, "1")
    assert describe_part(part) == "list of service principal 1"
