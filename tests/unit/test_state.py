"""How a stream's state changes when a walk begins or something goes wrong."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from models.change_event import ChangeKind
from models.resources import EDGES_IN, RESOURCES
from models.source import Mode
from models.stream import Phase
from worker.core.errors import NotLicensed, ResourceRefused
from worker.store.mirror.change import Change
from worker.store.state.streams import Stream
from worker.sync.plan import (
    MAX_RESTARTS,
    StreamStep,
    SyncRequest,
    choose_step,
    compute_select_hash,
    resume_refused,
)
from worker.sync.policy import Policy
from worker.sync.state import (
    NOT_LICENSED_PAUSE,
    REFUSED_PAUSE,
    add_drift,
    get_drift,
    mark_refused,
    postpone,
    release_hold,
    repeat_walk,
    restart_walk,
    return_to_plain,
    start_walk,
    switch_mode,
    switch_to_lists,
)

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
AGO = NOW - timedelta(hours=2)
TOKEN = "https://graph.microsoft.com/v1.0/users/delta?$deltatoken=a"
PAGE = "https://graph.microsoft.com/v1.0/users?$skiptoken=b"


def stream(name: str = "users", **values: Any) -> Stream:
    """A stream in the middle of things."""
    started = Stream(
        resource=RESOURCES[name],
        walk_id=7,
        page_no=12,
        next_link=PAGE,
        seen_count=999,
        loop_mark=PAGE,
        body_digest="d",
        body_repeats=1,
        incomplete=True,
        parts=["x"],
        walk_started_at=AGO,
        first_complete_at=AGO,
        full_walk_at=AGO,
        fresh_at=AGO,
        reason="waiting",
    )
    return replace(started, **values)


def changes(**numbers: int) -> list[Change]:
    return [Change(ChangeKind(kind), "x") for kind, n in numbers.items() for _ in range(n)]


NOTHING = {"created": 0, "updated": 0, "deleted": 0, "restored": 0}


def refusal(status: int) -> ResourceRefused:
    error = ResourceRefused("Graph says no")
    error.status = status
    return error


def assert_from_the_start(before: Stream, after: Stream) -> None:
    """Nothing of the walk before may count for the one that begins."""
    assert after.walk_id > before.walk_id
    assert (after.page_no, after.seen_count, after.body_repeats) == (0, 0, 0)
    assert (after.loop_mark, after.body_digest, after.parts) == (None, None, None)
    assert after.incomplete is False
    assert (after.first_complete_at, after.fresh_at) == (before.first_complete_at, before.fresh_at)


# ---- a walk begins


def test_a_walk_begins_with_nothing_seen() -> None:
    before = stream(phase=Phase.DELTA, delta_link=TOKEN, delta_link_at=AGO)
    after = start_walk(before, NOW, None)
    assert_from_the_start(before, after)
    assert (after.phase, after.walk_started_at, after.reason) == (Phase.LISTING, NOW, None)
    assert after.select_hash == compute_select_hash(before.resource)
    assert (after.delta_link, after.delta_link_at) == (TOKEN, AGO)


def test_a_token_that_is_given_covers_the_walk() -> None:
    after = start_walk(stream(), NOW, TOKEN)
    assert (after.delta_link, after.delta_link_at) == (TOKEN, NOW)


@pytest.mark.parametrize(
    ("name", "mode", "start"),
    [
        ("users", Mode.PLAIN, "/v1.0/users?$select=id,"),
        ("users", Mode.LIST_ONLY, "/v1.0/users?$select=id,"),
        ("groups", Mode.PLAIN, "/v1.0/groups/delta?$select=id,"),
        ("groups", Mode.LIST_ONLY, "/v1.0/groups?$select=id,"),
        ("sites", Mode.PLAIN, "/v1.0/sites/getAllSites?$select=id,"),
        ("sites", Mode.SEARCH, "/v1.0/sites?search=*"),
        ("role_definitions", Mode.PLAIN, "/v1.0/roleManagement/directory/roleDefinitions"),
        ("role_assignments", Mode.PLAIN, "/v1.0/roleManagement/directory/roleAssignments"),
    ],
)
def test_a_walk_starts_at_its_own_link(name: str, mode: Mode, start: str) -> None:
    link = start_walk(stream(name, mode=mode), NOW, None).next_link
    assert link is not None
    assert link.startswith(f"https://graph.microsoft.com{start}")


def test_users_are_listed_in_large_pages_and_groups_bring_their_members() -> None:
    users, groups = (start_walk(stream(name), NOW, None).next_link for name in ("users", "groups"))
    assert users is not None
    assert users.endswith("&$top=999")
    assert groups is not None
    assert groups.endswith(",members,owners")
    assert "$top" not in groups


# ---- what the deltas had missed


def test_a_walk_that_compares_begins_to_count_and_another_does_not() -> None:
    old = {"users": {**NOTHING, "created": 9}}
    before = stream(phase=Phase.DELTA, drift=old)
    assert start_walk(before, NOW, TOKEN, is_drift_measured=True).drift == {"users": NOTHING}
    assert start_walk(before, NOW, TOKEN).drift is None
    groups = start_walk(stream("groups", drift=old), NOW, None, is_drift_measured=True)
    edges = (edge.name for edge in EDGES_IN["groups"])
    assert groups.drift == dict.fromkeys(("groups", *edges), NOTHING)


@pytest.mark.parametrize("phase", [Phase.LISTING, Phase.SWEEPING])
def test_what_a_walk_changes_adds_up(phase: Phase) -> None:
    one = start_walk(stream(phase=Phase.DELTA), NOW, TOKEN, is_drift_measured=True)
    one = replace(one, phase=phase)
    users, members = RESOURCES["users"], RESOURCES["group_members"]
    one = add_drift(one, users, changes(created=1, updated=2))
    one = add_drift(one, users, changes(updated=1))
    one = add_drift(one, members, changes(deleted=4))
    assert one.drift == {
        "users": {**NOTHING, "created": 1, "updated": 3},
        "group_members": {**NOTHING, "deleted": 4},
    }


def test_rounds_and_other_walks_count_nothing() -> None:
    told = stream(phase=Phase.DELTA, drift={"users": NOTHING})
    assert add_drift(told, told.resource, changes(created=1)) is told
    silent = stream(phase=Phase.LISTING)
    assert add_drift(silent, silent.resource, changes(created=1)) is silent


@pytest.mark.parametrize("name", ["users", "groups"])
def test_a_walk_that_begins_again_goes_on_counting(name: str) -> None:
    one = start_walk(stream(name, phase=Phase.DELTA), NOW, TOKEN, is_drift_measured=True)
    one = add_drift(one, one.resource, changes(updated=2))
    after = restart_walk(one, NOW)
    assert after is not None
    if after.phase is Phase.READY:
        after = start_walk(after, NOW, None)
    assert after.drift is not None
    assert after.drift[name] == {**NOTHING, "updated": 2}


def test_a_lost_cursor_leaves_no_count_behind() -> None:
    after = restart_walk(stream(phase=Phase.DELTA, delta_link=TOKEN, drift={"users": NOTHING}), NOW)
    assert after is not None
    assert after.drift is None
    assert start_walk(after, NOW, TOKEN).drift is None


def test_a_count_is_told_once_its_walk_has_ended() -> None:
    drift = {"users": NOTHING}
    ended = stream(phase=Phase.DELTA, drift=drift, full_walk_at=NOW)
    assert get_drift(ended, AGO, []) == drift
    assert get_drift(replace(ended, full_walk_at=AGO), NOW, []) is None
    assert get_drift(replace(ended, full_walk_at=AGO), NOW, ["users"]) == drift
    assert get_drift(replace(ended, phase=Phase.LISTING), AGO, ["users"]) is None


# ---- a walk begins again


def test_a_listing_of_users_that_begins_again_keeps_its_token() -> None:
    """The token was taken before the first listing, so it still covers the new one."""
    before = stream(phase=Phase.LISTING, delta_link=TOKEN, delta_link_at=AGO)
    after = restart_walk(before, NOW)
    assert after is not None
    assert_from_the_start(before, after)
    assert after.phase is Phase.LISTING
    assert (after.delta_link, after.delta_link_at) == (TOKEN, AGO)
    assert after.walk_started_at == AGO
    assert after.restarts == 1
    assert after.next_link is not None
    assert after.next_link != PAGE


def test_a_sweep_of_users_that_begins_again_keeps_its_token() -> None:
    before = stream(phase=Phase.SWEEPING, next_link=None, delta_link=TOKEN, delta_link_at=AGO)
    after = restart_walk(before, NOW)
    assert after is not None
    assert (after.phase, after.delta_link) == (Phase.LISTING, TOKEN)


@pytest.mark.parametrize(
    ("name", "phase", "token"),
    [
        ("users", Phase.DELTA, TOKEN),
        ("users", Phase.HELD, TOKEN),
        ("groups", Phase.LISTING, TOKEN),
        ("groups", Phase.DELTA, TOKEN),
        ("sites", Phase.LISTING, None),
        ("role_assignments", Phase.LISTING, None),
        ("users", Phase.LISTING, None),
    ],
)
def test_otherwise_a_restart_drops_the_cursor(name: str, phase: Phase, token: str | None) -> None:
    before = stream(name, phase=phase, delta_link=token)
    after = restart_walk(before, NOW)
    assert after is not None
    assert_from_the_start(before, after)
    assert (after.phase, after.delta_link, after.next_link) == (Phase.READY, None, None)
    step = choose_step(after, SyncRequest(NOW), NOW, Policy(), 0)
    assert step in (StreamStep.TAKE_TOKEN, StreamStep.START_WALK)


@pytest.mark.parametrize("phase", [Phase.LISTING, Phase.DELTA])
def test_restarts_are_bounded(phase: Phase) -> None:
    one = stream(phase=phase, delta_link=TOKEN)
    walks = set()
    for number in range(MAX_RESTARTS):
        after = restart_walk(one, NOW)
        assert after is not None
        assert after.restarts == number + 1
        walks.add(after.walk_id)
        one = replace(after, phase=phase, delta_link=TOKEN)
    assert len(walks) == MAX_RESTARTS
    assert restart_walk(one, NOW) is None


# ---- refused


@pytest.mark.parametrize("name", ["users", "groups"])
def test_a_walk_that_is_refused_on_its_way_begins_again_and_keeps_its_cursor(name: str) -> None:
    before = stream(name, phase=Phase.LISTING, delta_link=TOKEN, delta_link_at=AGO)
    after = repeat_walk(before, NOW)
    assert after is not None
    assert_from_the_start(before, after)
    assert (after.phase, after.delta_link, after.delta_link_at) == (Phase.LISTING, TOKEN, AGO)
    assert after.restarts == 1
    assert repeat_walk(replace(before, restarts=MAX_RESTARTS), NOW) is None


@pytest.mark.parametrize("name", ["users", "groups"])
def test_lists_take_the_place_of_a_refused_delta_and_its_cursor_waits(name: str) -> None:
    cursor = replace(stream(name), delta_link=TOKEN, delta_link_at=NOW, select_hash="of before")
    after = switch_to_lists(replace(cursor, phase=Phase.DELTA), NOW)
    assert_from_the_start(cursor, after)
    assert (after.mode, after.phase, after.delta_link) == (Mode.LIST_ONLY, Phase.READY, TOKEN)
    assert choose_step(after, SyncRequest(NOW), NOW, Policy(), 0) is StreamStep.START_WALK
    walk = start_walk(after, NOW, None)
    assert (walk.delta_link, walk.select_hash) == (TOKEN, "of before"), "they belong together"
    assert release_hold(replace(after, phase=Phase.HELD)).phase is Phase.READY
    plain = replace(return_to_plain(after), select_hash=compute_select_hash(after.resource))
    assert (plain.mode, plain.phase) == (Mode.PLAIN, Phase.DELTA)
    assert choose_step(plain, SyncRequest(NOW), NOW, Policy(), 0) is StreamStep.FETCH_PAGE, (
        "on from the cursor"
    )


@pytest.mark.parametrize(
    ("name", "phase", "status", "mode"),
    [
        ("role_assignments", Phase.LISTING, 400, Mode.BY_DEFINITION),
        ("role_assignments", Phase.LISTING, 403, None),
        ("role_assignments", Phase.LISTING, 404, None),
        ("role_definitions", Phase.LISTING, 400, None),
        ("sites", Phase.LISTING, 403, Mode.SEARCH),
        ("sites", Phase.LISTING, 400, Mode.SEARCH),
        ("sites", Phase.LISTING, 404, Mode.SEARCH),
        ("sites", Phase.LISTING, 501, Mode.SEARCH),
        ("sites", Phase.LISTING, 402, None),
        ("users", Phase.READY, 400, Mode.LIST_ONLY),
        ("users", Phase.READY, 404, Mode.LIST_ONLY),
        ("users", Phase.READY, 501, Mode.LIST_ONLY),
        ("users", Phase.READY, 403, None),
        ("users", Phase.LISTING, 400, None),
        ("groups", Phase.LISTING, 400, None),
        ("groups", Phase.DELTA, 501, None),
    ],
)
def test_there_is_another_way_for_some_refusals(
    name: str, phase: Phase, status: int, mode: Mode | None
) -> None:
    before = stream(name, phase=phase)
    after = switch_mode(before, refusal(status), NOW)
    if mode is None:
        assert after is None
        return
    assert after is not None
    assert_from_the_start(before, after)
    assert (after.mode, after.phase, after.due_at) == (mode, Phase.READY, NOW)
    assert (after.next_link, after.delta_link) == (None, None)
    assert choose_step(after, SyncRequest(NOW), NOW, Policy(), 0) is StreamStep.START_WALK


@pytest.mark.parametrize(("status", "there_is"), [(400, 1), (404, 1), (501, 1), (403, 0), (402, 0)])
def test_groups_without_delta_are_listed(status: int, *, there_is: int) -> None:
    """Where the enumeration is refused at its start; further on it is another fault."""
    before = stream("groups", phase=Phase.LISTING, page_no=0)
    after = switch_mode(before, refusal(status), NOW)
    assert (after is not None) is bool(there_is)
    if after is not None:
        assert_from_the_start(before, after)
        assert (after.mode, after.phase) == (Mode.LIST_ONLY, Phase.READY)
        assert choose_step(after, SyncRequest(NOW), NOW, Policy(), 0) is StreamStep.START_WALK


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("role_assignments", Mode.BY_DEFINITION),
        ("sites", Mode.SEARCH),
        ("users", Mode.LIST_ONLY),
        ("groups", Mode.LIST_ONLY),
    ],
)
def test_there_is_no_third_way(name: str, mode: Mode) -> None:
    for status in (400, 403, 404, 501):
        assert switch_mode(stream(name, mode=mode), refusal(status), NOW) is None


def test_a_refused_stream_waits_and_is_tried_again_in_the_plain_way() -> None:
    before = stream("sites", mode=Mode.SEARCH, phase=Phase.LISTING)
    after = mark_refused(before, NOW, refusal(403))
    assert_from_the_start(before, after)
    assert (after.phase, after.mode) == (Phase.REFUSED, Mode.PLAIN)
    assert (after.next_link, after.delta_link) == (None, None)
    assert after.due_at == NOW + timedelta(seconds=REFUSED_PAUSE)
    assert after.reason == "Graph says no"
    assert choose_step(after, SyncRequest(NOW), NOW, Policy(), 0) is StreamStep.WAIT
    later = NOW + timedelta(seconds=REFUSED_PAUSE)
    assert choose_step(after, SyncRequest(later), later, Policy(), 0) is StreamStep.START_WALK


@pytest.mark.parametrize(
    ("before", "step"),
    [
        (stream(phase=Phase.DELTA, next_link=None, delta_link=TOKEN), StreamStep.FETCH_PAGE),
        (stream(phase=Phase.DELTA, delta_link=TOKEN), StreamStep.FETCH_PAGE),
        (stream(phase=Phase.HELD, next_link=None, delta_link=TOKEN), StreamStep.FETCH_PAGE),
        (stream(phase=Phase.LISTING, delta_link=TOKEN), StreamStep.FETCH_PAGE),
        (stream(phase=Phase.LISTING, page_no=0, delta_link=TOKEN), StreamStep.FETCH_PAGE),
        (stream(phase=Phase.SWEEPING, next_link=None, delta_link=TOKEN), StreamStep.SWEEP),
        (stream("groups", phase=Phase.LISTING, delta_link=None), StreamStep.FETCH_PAGE),
        (stream("groups", phase=Phase.LISTING, mode=Mode.LIST_ONLY), StreamStep.FETCH_PAGE),
        (
            stream("role_assignments", phase=Phase.LISTING, mode=Mode.BY_DEFINITION),
            StreamStep.FETCH_PAGE,
        ),
    ],
)
def test_a_refused_stream_goes_on_from_where_it_was(before: Stream, step: StreamStep) -> None:
    before = replace(before, select_hash=compute_select_hash(before.resource), delta_link_at=NOW)
    waiting = mark_refused(before, NOW, refusal(403))
    assert (waiting.phase, waiting.refused_phase) == (Phase.REFUSED, before.phase)
    assert choose_step(waiting, SyncRequest(NOW), NOW, Policy(), 0) is StreamStep.WAIT
    later = NOW + timedelta(seconds=REFUSED_PAUSE)
    assert choose_step(waiting, SyncRequest(later), later, Policy(), 0) is step
    again = resume_refused(waiting)
    assert again == replace(before, due_at=waiting.due_at, reason=again.reason)


@pytest.mark.parametrize(
    ("age", "pause"),
    [
        (None, NOT_LICENSED_PAUSE),
        (60.0, REFUSED_PAUSE),
        (NOT_LICENSED_PAUSE - 1, REFUSED_PAUSE),
        (NOT_LICENSED_PAUSE, NOT_LICENSED_PAUSE),
        (40 * NOT_LICENSED_PAUSE, NOT_LICENSED_PAUSE),
    ],
)
def test_a_licence_is_asked_for_every_day_and_hourly_while_the_rows_are_new(
    age: float | None, pause: float
) -> None:
    fresh_at = None if age is None else NOW - timedelta(seconds=age)
    error = NotLicensed("no licence")
    error.status = 400
    after = mark_refused(stream(phase=Phase.DELTA, fresh_at=fresh_at), NOW, error)
    assert after.due_at == NOW + timedelta(seconds=pause)


@pytest.mark.parametrize("phase", [Phase.LISTING, Phase.DELTA])
def test_a_place_that_an_earlier_release_dropped_is_not_gone_on_from(phase: Phase) -> None:
    """It writes none of the columns that it does not know."""
    stale = stream(phase=Phase.REFUSED, refused_phase=phase, next_link=None, delta_link=None)
    assert resume_refused(stale).phase is Phase.READY


# ---- waiting


def test_a_stream_that_waits_stays_where_it_is() -> None:
    before = stream(phase=Phase.LISTING)
    after = postpone(before, NOW, 90.5, "busy")
    assert after == replace(before, due_at=NOW + timedelta(seconds=90.5), reason="busy")


def test_a_pause_without_end_is_cut() -> None:
    """A single bad Retry-After must not end the slice with an OverflowError."""
    assert postpone(stream(), NOW, 1e300, "busy").due_at == NOW + timedelta(days=1)


def test_what_is_no_longer_held_rests() -> None:
    rests = release_hold(stream(phase=Phase.HELD, delta_link=TOKEN))
    assert (rests.phase, rests.reason, rests.delta_link) == (Phase.DELTA, None, TOKEN)
    assert release_hold(stream("sites", phase=Phase.HELD)).phase is Phase.READY


# ---- beginnings


@pytest.mark.parametrize(
    ("values", "observes"),
    [
        ({"fresh_at": NOW - timedelta(minutes=14)}, True),
        ({"fresh_at": NOW - timedelta(minutes=16)}, False),
        ({"fresh_at": NOW - timedelta(minutes=16), "interval_seconds": 900.0}, True),
        ({"fresh_at": NOW - timedelta(minutes=46), "interval_seconds": 900.0}, False),
        ({"fresh_at": NOW - timedelta(seconds=659), "interval_seconds": 60.0}, True),
        ({"fresh_at": NOW - timedelta(seconds=661), "interval_seconds": 60.0}, False),
        ({"fresh_at": NOW, "first_complete_at": None}, False),
        ({"fresh_at": None}, False),
    ],
)
def test_what_is_new_began_now_if_the_last_reading_is_not_late(
    values: dict[str, Any], observes: bool
) -> None:
    assert stream(**values).can_date_changes(NOW) is observes
