"""What is to be done next for a stream, for every phase and every order."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.resources import RESOURCES, STREAMED
from models.source import Mode
from models.stream import Phase
from worker.store.state.streams import Stream
from worker.sync.plan import (
    StreamStep,
    SyncRequest,
    choose_step,
    compute_due_after_round,
    compute_next_due,
    compute_select_hash,
    rank_for_opening,
    schedule_property_walk,
    should_measure_drift,
    should_retry_plain,
)
from worker.sync.policy import Policy

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
SOON, AGO = NOW + timedelta(minutes=3), NOW - timedelta(minutes=3)
POLICY = Policy()
CLOCK = SyncRequest(NOW)
MANUAL = SyncRequest(NOW, manual=True)
FULL = SyncRequest(NOW, manual=True, full=True)
LINK = "https://graph.microsoft.com/v1.0/users/delta?$deltatoken=a"


def stream(name: str = "users", **values: Any) -> Stream:
    return Stream(resource=RESOURCES[name], **values)


def in_delta(name: str = "users", **values: Any) -> Stream:
    """A stream that rests between two rounds and is not due."""
    resting = stream(
        name,
        phase=Phase.DELTA,
        delta_link=LINK,
        delta_link_at=AGO,
        select_hash=compute_select_hash(RESOURCES[name]),
        first_complete_at=AGO,
        full_walk_at=AGO,
        fresh_at=AGO,
        due_at=SOON,
        full_due_at=NOW + timedelta(days=7),
    )
    return replace(resting, **values)


def step(one: Stream, request: SyncRequest = CLOCK, pending: int = 0) -> StreamStep:
    return choose_step(one, request, NOW, POLICY, pending)


# ---- the first time


@pytest.mark.parametrize("order", [CLOCK, MANUAL, FULL])
@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("users", StreamStep.TAKE_TOKEN),
        ("groups", StreamStep.START_WALK),
        ("sites", StreamStep.START_WALK),
        ("role_definitions", StreamStep.START_WALK),
        ("role_assignments", StreamStep.START_WALK),
    ],
)
def test_a_stream_that_never_began_begins(name: str, first: StreamStep, order: SyncRequest) -> None:
    assert step(stream(name), order) is first


def test_users_without_delta_are_listed_without_a_token() -> None:
    assert step(stream(mode=Mode.LIST_ONLY)) is StreamStep.START_WALK


# ---- phases


TABLE: list[tuple[str, Stream, StreamStep, StreamStep, StreamStep]] = [
    (
        "listing, due",
        stream(phase=Phase.LISTING, next_link=LINK, delta_link=LINK, due_at=AGO),
        StreamStep.FETCH_PAGE,
        StreamStep.FETCH_PAGE,
        StreamStep.FETCH_PAGE,
    ),
    (
        "listing, never scheduled",
        stream(phase=Phase.LISTING, next_link=LINK),
        StreamStep.FETCH_PAGE,
        StreamStep.FETCH_PAGE,
        StreamStep.FETCH_PAGE,
    ),
    (
        "listing, waiting",
        stream(phase=Phase.LISTING, next_link=LINK, due_at=SOON, fresh_at=AGO),
        StreamStep.WAIT,
        StreamStep.FETCH_PAGE,
        StreamStep.FETCH_PAGE,
    ),
    (
        "sweeping, due",
        stream(phase=Phase.SWEEPING, delta_link=LINK, due_at=AGO),
        StreamStep.SWEEP,
        StreamStep.SWEEP,
        StreamStep.SWEEP,
    ),
    (
        "sweeping, waiting",
        stream(phase=Phase.SWEEPING, delta_link=LINK, due_at=SOON, fresh_at=AGO),
        StreamStep.WAIT,
        StreamStep.SWEEP,
        StreamStep.SWEEP,
    ),
    ("delta, not due", in_delta(), StreamStep.WAIT, StreamStep.FETCH_PAGE, StreamStep.FETCH_PAGE),
    (
        "delta, due",
        in_delta(due_at=AGO),
        StreamStep.FETCH_PAGE,
        StreamStep.FETCH_PAGE,
        StreamStep.FETCH_PAGE,
    ),
    (
        "delta, due now",
        in_delta(due_at=NOW),
        StreamStep.FETCH_PAGE,
        StreamStep.FETCH_PAGE,
        StreamStep.FETCH_PAGE,
    ),
    (
        "caught up, not due",
        in_delta(fresh_at=NOW),
        StreamStep.WAIT,
        StreamStep.WAIT,
        StreamStep.TAKE_TOKEN,
    ),
    (
        "in a round, due",
        in_delta(next_link=LINK, due_at=AGO),
        StreamStep.FETCH_PAGE,
        StreamStep.FETCH_PAGE,
        StreamStep.FETCH_PAGE,
    ),
    (
        "in a round, waiting",
        in_delta(next_link=LINK, due_at=SOON),
        StreamStep.WAIT,
        StreamStep.FETCH_PAGE,
        StreamStep.FETCH_PAGE,
    ),
    (
        "groups, due",
        in_delta("groups", due_at=AGO),
        StreamStep.FETCH_PAGE,
        StreamStep.FETCH_PAGE,
        StreamStep.FETCH_PAGE,
    ),
    (
        "groups, caught up",
        in_delta("groups", fresh_at=NOW),
        StreamStep.WAIT,
        StreamStep.WAIT,
        StreamStep.START_WALK,
    ),
    (
        "held, due",
        in_delta(phase=Phase.HELD, due_at=AGO),
        StreamStep.FETCH_PAGE,
        StreamStep.FETCH_PAGE,
        StreamStep.FETCH_PAGE,
    ),
    (
        "held, not due",
        in_delta(phase=Phase.HELD),
        StreamStep.WAIT,
        StreamStep.FETCH_PAGE,
        StreamStep.FETCH_PAGE,
    ),
    (
        "held, caught up",
        in_delta(phase=Phase.HELD, fresh_at=NOW),
        StreamStep.WAIT,
        StreamStep.WAIT,
        StreamStep.TAKE_TOKEN,
    ),
    (
        "held snapshot, due",
        stream("sites", phase=Phase.HELD, due_at=AGO, fresh_at=AGO),
        StreamStep.START_WALK,
        StreamStep.START_WALK,
        StreamStep.START_WALK,
    ),
    (
        "refused, waiting",
        stream(phase=Phase.REFUSED, due_at=SOON, fresh_at=AGO),
        StreamStep.WAIT,
        StreamStep.TAKE_TOKEN,
        StreamStep.TAKE_TOKEN,
    ),
    (
        "refused, due again",
        stream("groups", phase=Phase.REFUSED, due_at=AGO),
        StreamStep.START_WALK,
        StreamStep.START_WALK,
        StreamStep.START_WALK,
    ),
    (
        "snapshot at rest",
        stream("sites", phase=Phase.READY, due_at=SOON, fresh_at=AGO, full_walk_at=AGO),
        StreamStep.WAIT,
        StreamStep.START_WALK,
        StreamStep.START_WALK,
    ),
    (
        "snapshot, due",
        stream("role_assignments", phase=Phase.READY, due_at=AGO, fresh_at=AGO),
        StreamStep.START_WALK,
        StreamStep.START_WALK,
        StreamStep.START_WALK,
    ),
]


@pytest.mark.parametrize(
    ("one", "by_clock", "by_hand", "full"),
    [row[1:] for row in TABLE],
    ids=[row[0] for row in TABLE],
)
def test_each_phase_has_its_step(
    one: Stream, by_clock: StreamStep, by_hand: StreamStep, full: StreamStep
) -> None:
    assert (step(one, CLOCK), step(one, MANUAL), step(one, FULL)) == (by_clock, by_hand, full)


# ---- orders


def test_the_opening_call_holds_deltas_first_and_then_what_has_waited_longest() -> None:
    found = {
        "late list": stream("sites", due_at=AGO),
        "new list": stream("role_assignments"),
        "delta": in_delta("groups", due_at=NOW),
        "list": stream("role_definitions", due_at=NOW),
        "late delta": in_delta("users", due_at=AGO),
        "delta without cursor": stream("users", due_at=SOON),
    }
    order = ["late delta", "delta", "new list", "late list", "list", "delta without cursor"]
    assert sorted(found, key=lambda name: rank_for_opening(found[name])) == order


def test_what_is_fresh_since_the_order_is_done() -> None:
    assert step(in_delta(fresh_at=NOW), MANUAL) is StreamStep.WAIT


def test_a_full_order_goes_on_until_a_full_walk_began_after_it() -> None:
    assert step(in_delta(fresh_at=NOW), FULL) is StreamStep.TAKE_TOKEN
    assert step(in_delta(fresh_at=NOW, full_walk_at=NOW), FULL) is StreamStep.WAIT


@pytest.mark.parametrize(
    ("named", "name", "wanted"),
    [
        ("users", "users", True),
        ("users", "groups", False),
        ("groups", "groups", True),
        ("group_members", "groups", True),
        ("group_members", "users", False),
        ("sites", "sites", True),
    ],
)
def test_an_order_covers_what_it_names(named: str, name: str, *, wanted: bool) -> None:
    request = SyncRequest(NOW, manual=True, resources=frozenset({named}))
    assert request.covers(stream(name)) is wanted
    assert (step(stream(name), request) is not StreamStep.WAIT) is wanted


def test_an_order_for_one_resource_leaves_what_is_due_of_others() -> None:
    request = SyncRequest(NOW, manual=True, resources=frozenset({"sites"}))
    assert step(in_delta(due_at=AGO), request) is StreamStep.WAIT


# ---- removals that wait


@pytest.mark.parametrize("phase", [Phase.DELTA, Phase.HELD])
@pytest.mark.parametrize(
    "order", [CLOCK, MANUAL, FULL, SyncRequest(NOW, True, frozenset({"sites"}))]
)
def test_removals_of_a_complete_round_are_settled_first(phase: Phase, order: SyncRequest) -> None:
    assert step(in_delta(phase=phase), order, pending=3) is StreamStep.APPLY_REMOVALS


@pytest.mark.parametrize(
    "one",
    [
        in_delta(next_link=LINK, due_at=AGO),
        stream(phase=Phase.LISTING, next_link=LINK, due_at=AGO),
        stream(phase=Phase.SWEEPING, due_at=AGO),
    ],
)
def test_removals_wait_for_the_end_of_their_round(one: Stream) -> None:
    assert step(one, pending=3) is not StreamStep.APPLY_REMOVALS


# ---- when the cursor will not do


def test_a_cursor_that_is_too_old_is_not_used() -> None:
    old = NOW - timedelta(days=6, seconds=1)
    assert step(in_delta(due_at=AGO, delta_link_at=old)) is StreamStep.TAKE_TOKEN
    assert (
        step(in_delta(due_at=AGO, delta_link_at=old + timedelta(seconds=2)))
        is StreamStep.FETCH_PAGE
    )
    assert step(in_delta(due_at=AGO, delta_link_at=None)) is StreamStep.TAKE_TOKEN


def test_a_cursor_that_was_given_up_is_another_walk() -> None:
    assert step(in_delta(due_at=AGO, select_hash=None)) is StreamStep.TAKE_TOKEN
    assert step(in_delta("groups", due_at=AGO, select_hash=None)) is StreamStep.START_WALK


# ---- other properties

DAY = timedelta(days=1)


@pytest.mark.parametrize("name", ["users", "groups"])
@pytest.mark.parametrize(
    "lacking",
    [{"select_hash": "older"}, {"walked_columns": ["id"]}],
    ids=lambda one: next(iter(one)),
)
def test_deltas_go_on_with_an_older_list_and_a_walk_follows_within_a_day(
    name: str, lacking: dict[str, Any]
) -> None:
    before = in_delta(name, due_at=AGO, **lacking)
    assert step(before) is StreamStep.FETCH_PAGE
    after = schedule_property_walk(before, 7, NOW)
    assert step(after) is StreamStep.FETCH_PAGE
    assert after.full_due_at is not None
    assert NOW <= after.full_due_at <= NOW + DAY
    assert after == replace(before, full_due_at=after.full_due_at), "nothing else"
    due = replace(after, fresh_at=after.full_due_at)
    walk = choose_step(due, CLOCK, after.full_due_at, POLICY, 0)
    assert walk in (StreamStep.TAKE_TOKEN, StreamStep.START_WALK)
    assert should_measure_drift(due, CLOCK, after.full_due_at, POLICY), "it is no resync"


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"select_hash": None, "walked_columns": ["id"]},
        {"select_hash": "older", "delta_link": None},
        {"select_hash": "older", "mode": Mode.LIST_ONLY},
        {"walked_columns": [*RESOURCES["users"].column_names, "of_a_later_release"]},
        {
            "left_out": ["jobTitle"],
            "select_hash": compute_select_hash(RESOURCES["users"], ["jobTitle"]),
            "walked_columns": sorted({*RESOURCES["users"].column_names} - {"job_title"}),
        },
    ],
)
def test_a_stream_that_lacks_no_columns_gets_no_walk_of_its_own(other: dict[str, Any]) -> None:
    before = in_delta(**other)
    assert schedule_property_walk(before, 7, NOW) == before


@given(
    due=st.none() | st.integers(-50, 400).map(lambda hours: NOW + timedelta(hours=hours)),
    looks=st.lists(st.integers(0, 3600), max_size=30),
    connection=st.integers(1, 10**9),
)
def test_a_moment_that_is_set_is_never_moved(
    due: datetime | None, looks: list[int], connection: int
) -> None:
    now, one = NOW, in_delta(select_hash="older", full_due_at=due)
    first = schedule_property_walk(one, connection, now)
    assert first.full_due_at is not None
    assert first.full_due_at <= NOW + DAY
    if due is not None and due <= NOW + DAY:
        assert first.full_due_at == due, "the walk of the week is near enough"
    for seconds in looks:
        now += timedelta(seconds=seconds)
        first, before = schedule_property_walk(first, connection, now), first
        assert first == before


def test_the_walks_of_a_fleet_are_spread_over_the_day() -> None:
    hours = [0] * 24
    for connection in range(1, 2401):
        for name in ("users", "groups"):
            due = schedule_property_walk(in_delta(name, select_hash="older"), connection, NOW)
            assert due.full_due_at is not None
            hours[int((due.full_due_at - NOW) / timedelta(hours=1))] += 1
    assert min(hours) > 140, hours
    assert max(hours) < 260, hours


def test_the_weekly_walk_begins_when_it_is_due() -> None:
    assert step(in_delta(due_at=AGO, full_due_at=NOW, fresh_at=NOW)) is StreamStep.TAKE_TOKEN
    assert step(in_delta(due_at=SOON, full_due_at=AGO)) is StreamStep.WAIT
    assert step(in_delta(due_at=AGO, full_due_at=None)) is StreamStep.FETCH_PAGE


def test_a_round_comes_before_a_walk_that_is_due() -> None:
    """So the walk finds what the deltas have missed, not what they were about to tell."""
    late = NOW - timedelta(minutes=1)
    behind = in_delta(due_at=AGO, full_due_at=late, fresh_at=AGO)
    assert step(behind) is StreamStep.FETCH_PAGE
    assert not should_measure_drift(behind, CLOCK, NOW, POLICY)
    caught_up = replace(behind, fresh_at=late)
    assert step(caught_up) is StreamStep.TAKE_TOKEN
    assert should_measure_drift(caught_up, CLOCK, NOW, POLICY)


def test_the_walk_follows_its_round_at_once() -> None:
    due, late = NOW - timedelta(seconds=9), NOW - timedelta(minutes=1)
    ended = in_delta(due_at=due, fresh_at=NOW)
    assert compute_due_after_round(ended, NOW, 300, 0.5) == due + timedelta(seconds=300)
    assert compute_due_after_round(replace(ended, full_due_at=late), NOW, 300, 0.5) == NOW
    too_early = replace(ended, full_due_at=late, fresh_at=AGO)
    assert compute_due_after_round(too_early, NOW, 300, 0.5) > NOW


@pytest.mark.parametrize(
    "other",
    [
        {"phase": Phase.HELD},
        {"phase": Phase.READY, "delta_link": None},
        {"select_hash": None},
        {"delta_link_at": NOW - timedelta(days=7)},
        {"full_due_at": SOON},
        {"full_due_at": None},
        {"fresh_at": None},
        {"fresh_at": AGO - timedelta(seconds=1)},
    ],
)
def test_other_walks_do_not_compare(other: dict[str, Any]) -> None:
    good = in_delta(full_due_at=AGO, fresh_at=AGO)
    assert should_measure_drift(good, CLOCK, NOW, POLICY)
    assert not should_measure_drift(replace(good, **other), CLOCK, NOW, POLICY)


def test_a_full_walk_by_hand_compares_too() -> None:
    assert should_measure_drift(in_delta(fresh_at=NOW), FULL, NOW, POLICY)
    assert not should_measure_drift(in_delta(fresh_at=AGO), FULL, NOW, POLICY)
    assert not should_measure_drift(in_delta(fresh_at=NOW), MANUAL, NOW, POLICY)


@pytest.mark.parametrize(
    ("name", "mode"),
    [(one.name, mode) for one in STREAMED for mode in one.sources if mode is not Mode.PLAIN],
)
def test_what_was_refused_is_asked_for_again_ahead_of_every_walk(name: str, mode: Mode) -> None:
    resting = stream(name, mode=mode)
    assert should_retry_plain(resting, CLOCK)
    assert should_retry_plain(replace(resting, phase=Phase.HELD), CLOCK)
    assert not should_retry_plain(replace(resting, phase=Phase.LISTING, next_link=LINK), CLOCK)
    assert not should_retry_plain(replace(resting, mode=Mode.PLAIN), CLOCK)


def test_a_search_under_way_gives_way_when_a_person_asks() -> None:
    searching = stream("sites", mode=Mode.SEARCH, phase=Phase.LISTING, walk_started_at=AGO)
    assert should_retry_plain(searching, MANUAL)
    assert not should_retry_plain(searching, CLOCK)
    assert not should_retry_plain(replace(searching, walk_started_at=NOW), MANUAL)


def test_the_digest_of_a_select_list_tells_the_lists_apart() -> None:
    bound = [resource for resource in STREAMED if resource.source.follows_delta]
    assert len({compute_select_hash(resource) for resource in bound}) == len(bound)
    assert compute_select_hash(RESOURCES["users"]) == compute_select_hash(RESOURCES["users"])


# ---- any state

moments = st.none() | st.integers(-500, 500).map(lambda hours: NOW + timedelta(hours=hours / 2))
streams = st.builds(
    Stream,
    resource=st.sampled_from(STREAMED),
    phase=st.sampled_from(Phase),
    mode=st.sampled_from(Mode),
    next_link=st.none() | st.just(LINK),
    delta_link=st.none() | st.just(LINK),
    delta_link_at=moments,
    select_hash=st.none() | st.sampled_from([compute_select_hash(one) for one in STREAMED]),
    fresh_at=moments,
    full_walk_at=moments,
    due_at=moments,
    full_due_at=moments,
)
orders = st.builds(
    SyncRequest,
    requested_at=st.just(NOW),
    manual=st.booleans(),
    resources=st.none() | st.frozensets(st.sampled_from(list(RESOURCES))),
    full=st.booleans(),
)


@given(one=streams, order=orders, pending=st.integers(0, 5))
@settings(max_examples=300, deadline=None)
def test_any_state_has_a_step_that_it_can_take(
    one: Stream, order: SyncRequest, pending: int
) -> None:
    found = step(one, order, pending)
    assert isinstance(found, StreamStep)
    if found is StreamStep.FETCH_PAGE and one.phase is not Phase.LISTING:
        assert one.next_link or one.delta_link
    if found is StreamStep.TAKE_TOKEN:
        assert one.source.takes_token
    if found is StreamStep.APPLY_REMOVALS:
        assert pending


@given(one=streams, full=st.booleans(), pending=st.integers(0, 5))
@settings(max_examples=200, deadline=None)
def test_a_manual_order_never_waits_for_a_stream_that_was_never_fresh(
    one: Stream, *, full: bool, pending: int
) -> None:
    request = SyncRequest(NOW, manual=True, full=full)
    assert step(replace(one, fresh_at=None), request, pending) is not StreamStep.WAIT


# ---- clocks


def test_the_next_time_is_the_last_one_plus_the_interval() -> None:
    assert compute_next_due(NOW, NOW + timedelta(seconds=17), 300, 0.9) == NOW + timedelta(
        seconds=300
    )


@given(lags=st.lists(st.floats(0, 299), min_size=1, max_size=20), jitter=st.floats(0, 1))
@settings(deadline=None)
def test_a_clock_does_not_drift_however_late_each_tick_is(lags: list[float], jitter: float) -> None:
    due = NOW
    for lag in lags:
        due = compute_next_due(due, due + timedelta(seconds=lag), 300, jitter)
    assert due == NOW + timedelta(seconds=300 * len(lags))


@given(
    due=moments,
    interval=st.floats(1, 1e6),
    jitter=st.floats(0, 1),
)
@settings(deadline=None)
def test_the_next_time_lies_ahead_and_not_far(
    due: datetime | None, interval: float, jitter: float
) -> None:
    found = compute_next_due(due, NOW, interval, jitter)
    assert NOW < found <= NOW + timedelta(seconds=1.05 * interval + 1)


def test_streams_that_are_far_behind_are_spread() -> None:
    behind = NOW - timedelta(days=1)
    found = {compute_next_due(behind, NOW, 300, jitter / 10) for jitter in range(11)}
    assert len(found) == 11
    assert max(found) - min(found) == timedelta(seconds=30)
