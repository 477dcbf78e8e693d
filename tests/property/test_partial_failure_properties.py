"""What is set apart, what is deleted, and when a refusal is the whole resource's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.unresolved import NoAnswer, Part, PartKind
from worker.core.errors import (
    ConnectionBroken,
    CursorExpired,
    MalformedResponse,
    MirrorError,
    ResourceRefused,
    RetryLater,
)
from worker.nango.response import ApiResponse
from worker.sync.finish.keep import MAX_UNLISTED, Confirmation, decide_kept
from worker.sync.sources.by_id import ObjectPresence, classify_presence
from worker.sync.sources.partial_failures import (
    SHARED_CAUSE_MIN,
    isolate_errors,
    isolate_walk_errors,
)

WHY = NoAnswer("Graph answers 403")
ANSWERS = st.sampled_from(["gone", "there", "silent"])


def refusal(status: int, code: str = "x") -> ResourceRefused:
    error = ResourceRefused(f"Graph answers {status}")
    error.status, error.code = status, code
    return error


def passing(status: int) -> RetryLater:
    error = RetryLater(f"Graph answered {status}")
    error.status = status
    return error


TROUBLES = st.sampled_from(
    [
        refusal(403),
        refusal(400),
        passing(500),
        passing(503),
        MalformedResponse("unreadable"),
        CursorExpired("lost"),
    ]
)


@given(
    answers=st.dictionaries(st.integers(0, 400).map(str), ANSWERS, max_size=60),
    unasked=st.sets(st.integers(401, 900).map(str), max_size=60),
    last=st.booleans(),
    best_effort=st.booleans(),
)
def test_only_what_is_gone_by_id_goes_or_what_a_good_sample_stands_for(
    answers: dict[str, str], unasked: set[str], last: bool, best_effort: bool
) -> None:
    there = {key for key, said in answers.items() if said == "there"}
    silent = {key for key, said in answers.items() if said == "silent"}
    confirmed = Confirmation(
        {"sites": there},
        {Part("sites", PartKind.OBJECT, key): WHY for key in silent},
        {"sites": len(answers)},
        {"sites"} if unasked else set(),
    )
    try:
        spared = decide_kept(["sites"], confirmed, is_last_attempt=last, is_best_effort=best_effort)
    except CursorExpired:
        assert there
        assert not best_effort
        assert not last or unasked or len(there) > MAX_UNLISTED
        return
    gone = {*answers, *unasked} - spared.kept_keys["sites"]
    if "sites" in spared.weak_resources:
        gone -= unasked
        spared.add_unasked("sites", len(unasked))
    assert gone & (there | silent) == set()
    assert {key for key, said in answers.items() if said == "gone"} <= gone
    weak = 2 * len(silent) > len(answers)
    assert (gone & unasked) == (set() if weak else unasked)
    assert spared.needs_walk == (weak and bool(unasked))
    apart = {part.key for part in spared.unanswered if part.kind is not PartKind.DELETIONS}
    assert apart == silent | (set() if best_effort else there)


@given(
    troubles=st.dictionaries(st.integers(0, 40).map(str), TROUBLES, max_size=20),
    answered=st.integers(0, 20),
    first=st.booleans(),
)
def test_a_walk_sets_apart_what_is_not_everybodys_refusal(
    troubles: dict[str, MirrorError], answered: int, first: bool
) -> None:
    asked = len(troubles) + answered
    try:
        apart = isolate_walk_errors(troubles, asked, is_first_page=first)
    except MirrorError:
        assert not answered
        assert asked >= SHARED_CAUSE_MIN or (first and asked > 1)
        assert len({type(one) for one in troubles.values()}) == 1
        return
    assert apart.keys() == troubles.keys()


@pytest.mark.parametrize("number", [2, SHARED_CAUSE_MIN])
@pytest.mark.parametrize("error", [refusal(403), passing(503)])
def test_what_all_groups_meet_at_the_beginning_is_the_streams(
    number: int, error: MirrorError
) -> None:
    troubles = {str(index): error for index in range(number)}
    with pytest.raises(type(error)):
        isolate_walk_errors(troubles, number, is_first_page=True)
    if number < SHARED_CAUSE_MIN:
        assert len(isolate_walk_errors(troubles, number, is_first_page=False)) == number


def test_the_only_part_of_a_walk_is_set_apart() -> None:
    assert isolate_walk_errors({"a": refusal(403)}, 1, is_first_page=True).keys() == {"a"}


def test_being_asked_to_slow_down_is_never_one_parts_own() -> None:
    with pytest.raises(RetryLater):
        isolate_walk_errors({"a": passing(429)}, 20, is_first_page=False)


def test_a_rejected_token_is_a_parts_own_only_where_another_part_was_answered() -> None:
    broken: dict[str, MirrorError] = {"a": ConnectionBroken("token")}
    assert isolate_errors(broken, 2).keys() == {"a"}
    with pytest.raises(ConnectionBroken):
        isolate_errors(broken, 1)


@pytest.mark.parametrize(
    ("status", "meaning"),
    [
        (200, ObjectPresence.EXISTS),
        (404, ObjectPresence.GONE),
        (410, ObjectPresence.GONE),
        (423, ObjectPresence.LOCKED),
        *((status, ObjectPresence.UNKNOWN) for status in (400, 401, 403, 409, 429, 500, 501, 503)),
    ],
)
def test_only_gone_means_gone(status: int, meaning: ObjectPresence) -> None:
    assert classify_presence(ApiResponse(status, b"", {})) is meaning
