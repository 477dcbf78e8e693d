"""What is set apart, what is deleted, and when a refusal is the whole resource's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.unresolved import Part, PartKind, Unanswered
from worker.core.errors import Broken, Later, Refused, Restart, Torn, Trouble
from worker.nango.reply import Reply
from worker.sync.parts import MANY, Existence, each_its_own, existence, parts_of_a_walk
from worker.sync.spared import MOST_UNLISTED, Confirmed, spare

WHY = Unanswered("Graph answers 403")
ANSWERS = st.sampled_from(["gone", "there", "silent"])


def refusal(status: int, code: str = "x") -> Refused:
    trouble = Refused(f"Graph answers {status}")
    trouble.status, trouble.code = status, code
    return trouble


def passing(status: int) -> Later:
    trouble = Later(f"Graph answered {status}")
    trouble.status = status
    return trouble


TROUBLES = st.sampled_from(
    [refusal(403), refusal(400), passing(500), passing(503), Torn("unreadable"), Restart("lost")]
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
    confirmed = Confirmed(
        {"sites": there},
        {Part("sites", PartKind.OBJECT, key): WHY for key in silent},
        {"sites": len(answers)},
        {"sites"} if unasked else set(),
    )
    try:
        spared = spare(["sites"], confirmed, last=last, best_effort=best_effort)
    except Restart:
        assert there
        assert not best_effort
        assert not last or unasked or len(there) > MOST_UNLISTED
        return
    gone = {*answers, *unasked} - spared.kept["sites"]
    if "sites" in spared.weak:
        gone -= unasked
        spared.keep_unasked("sites", len(unasked))
    assert gone & (there | silent) == set()
    assert {key for key, said in answers.items() if said == "gone"} <= gone
    weak = 2 * len(silent) > len(answers)
    assert (gone & unasked) == (set() if weak else unasked)
    assert spared.needs_walk == (weak and bool(unasked))
    apart = {part.key for part in spared.apart if part.kind is not PartKind.DELETIONS}
    assert apart == silent | (set() if best_effort else there)


@given(
    troubles=st.dictionaries(st.integers(0, 40).map(str), TROUBLES, max_size=20),
    answered=st.integers(0, 20),
    first=st.booleans(),
)
def test_a_walk_sets_apart_what_is_not_everybodys_refusal(
    troubles: dict[str, Trouble], answered: int, first: bool
) -> None:
    asked = len(troubles) + answered
    try:
        apart = parts_of_a_walk(troubles, asked, first=first)
    except Trouble:
        assert not answered
        assert asked >= MANY or (first and asked > 1)
        assert len({type(one) for one in troubles.values()}) == 1
        return
    assert apart.keys() == troubles.keys()


@pytest.mark.parametrize("number", [2, MANY])
@pytest.mark.parametrize("trouble", [refusal(403), passing(503)])
def test_what_all_groups_meet_at_the_beginning_is_the_streams(
    number: int, trouble: Trouble
) -> None:
    troubles = {str(index): trouble for index in range(number)}
    with pytest.raises(type(trouble)):
        parts_of_a_walk(troubles, number, first=True)
    if number < MANY:
        assert len(parts_of_a_walk(troubles, number, first=False)) == number


def test_the_only_part_of_a_walk_is_set_apart() -> None:
    assert parts_of_a_walk({"a": refusal(403)}, 1, first=True).keys() == {"a"}


def test_being_asked_to_slow_down_is_never_one_parts_own() -> None:
    with pytest.raises(Later):
        parts_of_a_walk({"a": passing(429)}, 20, first=False)


def test_a_rejected_token_is_a_parts_own_only_where_another_part_was_answered() -> None:
    broken: dict[str, Trouble] = {"a": Broken("token")}
    assert each_its_own(broken, 2).keys() == {"a"}
    with pytest.raises(Broken):
        each_its_own(broken, 1)


@pytest.mark.parametrize(
    ("status", "meaning"),
    [
        (200, Existence.THERE),
        (404, Existence.GONE),
        (410, Existence.GONE),
        (423, Existence.LOCKED),
        *((status, Existence.UNKNOWN) for status in (400, 401, 403, 409, 429, 500, 501, 503)),
    ],
)
def test_only_gone_means_gone(status: int, meaning: Existence) -> None:
    assert existence(Reply(status, b"", {})) is meaning
