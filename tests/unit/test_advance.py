"""How a stream's state changes when a page is loaded, and when a walk or round ends."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.resources import RESOURCES, STREAMED
from models.source import Mode
from models.stream import Phase
from worker.core.errors import CursorExpired, MalformedResponse
from worker.graph.page import Page, RejectedObject
from worker.store.state.streams import Stream
from worker.sync.advance import MAX_REPEATS, advance_page, end_walk
from worker.sync.plan import compute_select_hash
from worker.sync.policy import Policy

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
AGO = NOW - timedelta(hours=2)
HOUR = timedelta(hours=1)
POLICY = Policy()
GRAPH = "https://graph.microsoft.com/v1.0/users"
TOKEN = f"{GRAPH}/delta?$deltatoken=a"


def listing(name: str = "users", **values: Any) -> Stream:
    """A stream in its first full walk."""
    stream = Stream(
        resource=RESOURCES[name], phase=Phase.LISTING, walk_id=7, walk_started_at=AGO, due_at=AGO
    )
    return replace(stream, **values)


def in_round(name: str = "users", **values: Any) -> Stream:
    """A stream that follows deltas."""
    resting = {"phase": Phase.DELTA, "delta_link": TOKEN, "first_complete_at": AGO}
    return listing(name, **{**resting, **values})


def swept(name: str = "users", **values: Any) -> Stream:
    """A stream whose walk was swept just now."""
    return listing(name, **{"phase": Phase.SWEEPING, "page_no": 3, "seen_count": 999, **values})


def page(link: str | None = None, **values: Any) -> Page:
    return Page(next_link=link, **values)


def advance(stream: Stream, *pages: Page) -> Stream:
    for one in pages:
        stream = advance_page(stream, one, NOW, POLICY, 0.5)
    return stream


def end(
    stream: Stream,
    holds: dict[str, str] | None = None,
    *,
    needs_walk: bool = False,
    jitter: float = 0.5,
) -> Stream:
    return end_walk(stream, NOW, POLICY, jitter, hold_reasons=holds or {}, needs_walk=needs_walk)


# ---- pages


@given(tail=st.integers(0, 40), cycle=st.integers(1, 40))
def test_links_that_go_in_circles_end_the_walk_within_a_few_rounds(tail: int, cycle: int) -> None:
    def link(number: int) -> str:
        return f"{GRAPH}?$skiptoken={number if number < tail else tail + (number - tail) % cycle}"

    numbers = range(4 * (tail + cycle) + 4)
    with pytest.raises(CursorExpired, match="cycle"):
        advance(listing(), *(page(link(n), count=1, digest=str(n)) for n in numbers))


@given(st.integers(1, 300))
def test_links_that_differ_never_end_a_walk(number: int) -> None:
    stream = advance(
        listing(), *(page(f"{GRAPH}?{n}", count=2, digest=str(n)) for n in range(number))
    )
    assert (stream.phase, stream.page_no, stream.seen_count) == (Phase.LISTING, number, 2 * number)


def test_one_page_again_and_again_ends_the_walk_though_its_links_differ() -> None:
    same = [page(f"{GRAPH}?{n}", count=1, digest="same") for n in range(MAX_REPEATS)]
    stream = advance(listing(), *same[:-1])
    with pytest.raises(CursorExpired, match="cycle"):
        advance(stream, same[-1])
    other = advance(stream, page(f"{GRAPH}?x", count=1, digest="other"))
    assert other.body_repeats == 0


def test_empty_pages_are_no_repeats() -> None:
    stream = advance(listing(), page(f"{GRAPH}?x", count=1, digest="a"))
    stream = advance(stream, *(page(f"{GRAPH}?{n}") for n in range(3 * MAX_REPEATS)))
    assert (stream.body_repeats, stream.body_digest) == (0, "a")


@pytest.mark.parametrize(
    "odd", [{"skipped": 1}, {"rejects": [RejectedObject(None, "no id")]}], ids=["skipped", "no id"]
)
def test_an_object_that_cannot_be_identified_makes_the_whole_walk_incomplete(
    odd: dict[str, Any],
) -> None:
    stream = advance(listing(), page(f"{GRAPH}?1", **odd), page(f"{GRAPH}?2"), page())
    assert stream.incomplete
    named = {"rejects": [RejectedObject("a", "malformed")]}
    assert not advance(listing(), page(f"{GRAPH}?1", **named), page()).incomplete


@pytest.mark.parametrize("resource", STREAMED, ids=lambda one: one.name)
@pytest.mark.parametrize("link", [None, TOKEN], ids=["no cursor", "cursor"])
def test_the_last_page_of_a_walk_leads_to_the_sweep(resource: Any, link: str | None) -> None:
    stream, last = listing(resource.name), page(delta_link=link)
    if resource.source.walks_by_delta and link is None:
        with pytest.raises(MalformedResponse, match="without a delta link"):
            advance(stream, last)
        stream = replace(stream, mode=Mode.LIST_ONLY)
    after = advance(stream, last)
    assert (after.phase, after.next_link, after.delta_link) == (Phase.SWEEPING, None, link)
    assert after.select_hash == (compute_select_hash(resource) if link else None)


@pytest.mark.parametrize(("asked", "same"), [(None, True), (True, True), (["id"], False)])
def test_a_cursor_belongs_to_what_its_walk_has_asked_for(*, asked: Any, same: bool) -> None:
    """An earlier release, with another list, may have begun the walk that ends now."""
    stream = listing("groups", select_hash="of before")
    stream = replace(stream, asked_columns=stream.current_columns if asked is True else asked)
    now = compute_select_hash(stream.resource)
    assert advance(stream, page(delta_link=TOKEN)).select_hash == (now if same else "of before")


def test_a_walk_is_as_fresh_as_its_first_page() -> None:
    first = advance(listing(), page(f"{GRAPH}?1"))
    assert first.walk_started_at == NOW
    later = replace(first, walk_started_at=AGO)
    assert advance(later, page(f"{GRAPH}?2")).walk_started_at == AGO


def test_a_round_ends_with_the_cursor_of_the_next_one() -> None:
    stream = advance(
        in_round(restarts=2), page(f"{GRAPH}?1", count=3, digest="a"), page(delta_link=f"{TOKEN}b")
    )
    assert (stream.phase, stream.delta_link, stream.delta_link_at) == (
        Phase.DELTA,
        f"{TOKEN}b",
        NOW,
    )
    assert (stream.page_no, stream.seen_count, stream.next_link) == (0, 0, None)
    assert (stream.restarts, stream.fresh_at, stream.walk_id) == (0, NOW, 8)
    assert stream.due_at is not None
    assert stream.due_at > NOW
    with pytest.raises(MalformedResponse, match="delta round"):
        advance(in_round(), page())


def test_a_page_that_comes_ends_the_reason_of_a_wait_but_not_of_a_hold() -> None:
    waited = advance(in_round(reason="Graph answered 503"), page(f"{GRAPH}?1"))
    assert waited.reason is None
    held = advance(in_round(phase=Phase.HELD, reason="too many"), page(f"{GRAPH}?1"))
    assert held.reason == "too many"


# ---- the end of a walk


def test_a_walk_that_skipped_objects_proves_nothing_and_comes_again_in_an_hour() -> None:
    after = end(swept(incomplete=True))
    assert (after.due_at, after.full_due_at) == (NOW + HOUR, NOW + HOUR)
    assert (after.first_complete_at, after.fresh_at, after.incomplete) == (None, None, False)
    assert "nothing was swept" in (after.reason or "")


def test_a_walk_that_ended_tells_how_much_it_was_sent_and_an_incomplete_one_does_not() -> None:
    after = end(swept(seen_count=7))
    assert (after.full_walk_count, after.seen_count) == (7, 0)
    assert end(swept(seen_count=7, incomplete=True)).full_walk_count is None


@pytest.mark.parametrize("resource", STREAMED, ids=lambda one: one.name)
def test_a_complete_walk_tells_which_columns_it_has_brought(resource: Any) -> None:
    whole = [*resource.column_names, *resource.relations]
    assert end(swept(resource.name)).walked_columns == whole, "an earlier release began it"
    after = end(swept(resource.name, asked_columns=["id", "other"]))
    assert (after.walked_columns, after.asked_columns) == (["id", "other"], None)
    before = swept(resource.name, asked_columns=whole, walked_columns=["id"], incomplete=True)
    torn = end(before)
    assert (torn.walked_columns, torn.asked_columns) == (["id"], None)


def test_what_is_left_out_is_not_asked_for() -> None:
    users = swept(left_out=["jobTitle", "id"]).current_columns
    assert "job_title" not in users
    sites = swept("sites", left_out=["root"]).current_columns
    assert "is_root" not in sites
    assert "web_url" in sites


@pytest.mark.parametrize("jitter", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(
    ("is_first", "needs_walk", "gap"),
    [
        (True, False, POLICY.first_full_walk_seconds),
        (False, True, POLICY.first_full_walk_seconds),
        (False, False, POLICY.full_walk_seconds),
    ],
)
def test_the_next_full_walk_comes_early_after_a_first_load_or_in_doubt(
    *, is_first: bool, needs_walk: bool, gap: float, jitter: float
) -> None:
    after = end(
        swept(first_complete_at=None if is_first else AGO), needs_walk=needs_walk, jitter=jitter
    )
    assert after.full_due_at is not None
    assert 0.9 * gap <= (after.full_due_at - NOW).total_seconds() <= 1.1 * gap
    assert after.first_complete_at == (NOW if is_first else AGO)
    assert (after.full_walk_at, after.fresh_at) == (AGO, AGO)


def test_deletions_that_wait_for_approval_hold_the_stream_and_are_named() -> None:
    after = end(swept("groups"), {"groups": "too many", "group_members": "too many as well"})
    assert after.phase is Phase.HELD
    assert after.reason == "waits for approval: groups: too many; group_members: too many as well"


@pytest.mark.parametrize("mode", [Mode.PLAIN, Mode.SEARCH])
def test_a_search_is_said_to_be_the_best_there_is(mode: Mode) -> None:
    after = end(swept("sites", mode=mode))
    assert after.phase is Phase.READY
    assert (after.reason or "").startswith("best effort") == (mode is Mode.SEARCH)


def test_changes_during_the_walk_are_asked_for_at_once_if_its_token_was_taken_before() -> None:
    users = end(swept(delta_link=TOKEN))
    assert (users.phase, users.due_at) == (Phase.DELTA, NOW)
    groups = end(swept("groups", delta_link=TOKEN))
    assert groups.phase is Phase.DELTA
    assert groups.due_at is not None
    assert groups.due_at > NOW


@given(repeats=st.integers(0, 2), restarts=st.integers(0, 3), page_no=st.integers(0, 99))
def test_nothing_of_a_walk_is_left_for_the_next_one(
    repeats: int, restarts: int, page_no: int
) -> None:
    stream = swept(
        body_repeats=repeats, body_digest="d", loop_mark=GRAPH, restarts=restarts, page_no=page_no
    )
    after = end(stream)
    assert (after.body_repeats, after.body_digest, after.loop_mark) == (0, None, None)
    assert (after.page_no, after.seen_count, after.restarts, after.next_link) == (0, 0, 0, None)
    assert after.walk_id == stream.walk_id + 1
