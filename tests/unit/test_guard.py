"""Deletions that are not believable wait for a person."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.sync.guard import hidden_away, implausible, sample, too_many_missing
from worker.sync.policy import Policy

POLICY = Policy(guard_percent=20, guard_rows=50)


@pytest.mark.parametrize(
    ("going", "live", "held"),
    [
        (0, 0, False),
        (0, 1000, False),
        (1, 1, False),
        (50, 50, False),
        (50, 60, False),
        (51, 60, True),
        (51, 51, True),
        (51, 255, False),
        (51, 254, True),
        (200, 1000, False),
        (201, 1000, True),
        (1000, 1000, True),
        (51, 0, False),
    ],
)
def test_more_than_a_share_and_more_than_a_number_is_held(
    going: int, live: int, *, held: bool
) -> None:
    assert (implausible(POLICY, going=going, live=live) is not None) is held


@pytest.mark.parametrize("going", [1, 3, 50, 5000])
def test_an_empty_answer_for_a_table_that_is_not_is_held(going: int) -> None:
    said = implausible(POLICY, going=going, live=going, empty=True)
    assert said is not None
    assert str(going) in said


def test_an_empty_answer_for_an_empty_table_is_believed() -> None:
    assert implausible(POLICY, going=0, live=0, empty=True) is None


def test_the_reason_tells_the_numbers_and_the_bound() -> None:
    said = implausible(Policy(guard_percent=12.5, guard_rows=0), going=3, live=10)
    assert said == "3 of 10 rows (30 %) would be deleted, more than 12.5 %"


def test_at_a_hundred_percent_only_an_empty_answer_is_held() -> None:
    lenient = Policy(guard_percent=100, guard_rows=0)
    assert implausible(lenient, going=10, live=10) is None
    assert implausible(lenient, going=10, live=10, empty=True)


@given(going=st.integers(0, 10**6), live=st.integers(0, 10**6), more=st.integers(0, 10**6))
def test_a_larger_deletion_is_never_believed_sooner(going: int, live: int, more: int) -> None:
    if implausible(POLICY, going=going, live=live) is not None:
        assert implausible(POLICY, going=going + more, live=live) is not None


@given(size=st.integers(0, 1000), everything=st.integers(0, 300), otherwise=st.integers(1, 100))
def test_a_sample_is_even_and_without_repeats(size: int, everything: int, otherwise: int) -> None:
    keys = [str(number) for number in range(size)]
    found = sample(keys, everything_up_to=max(everything, otherwise), otherwise=otherwise)
    if size <= max(everything, otherwise):
        assert found == keys
    else:
        assert len(found) == len(set(found)) == otherwise
        places = [int(key) for key in found]
        assert places == sorted(places)
        gaps = {later - sooner for sooner, later in pairwise(places)}
        assert not gaps or max(gaps) - min(gaps) <= 1


def test_hidden_members_are_counted_and_the_permission_is_named() -> None:
    one, more = hidden_away(1, 3), hidden_away(2, 40)
    assert "all 3 members that are left of a group" in one
    assert "all 40 members that are left of 2 groups" in more
    assert "Member.Read.Hidden" in one


@given(st.integers(0, 500), st.integers(1, 500), st.integers(0, 20), st.floats(1, 100))
def test_missing_customers_are_held_by_number_and_share(
    missing: int, present: int, floor: int, percent: float
) -> None:
    used = missing + present
    held = too_many_missing(missing, used, floor=floor, percent=percent, new_key=False)
    assert (held is not None) == (missing > floor and 100 * missing / used > percent)


@given(st.integers(1, 500), st.integers(0, 1000), st.floats(1, 100))
def test_a_new_key_that_knows_no_customer_is_never_believed(
    used: int, floor: int, percent: float
) -> None:
    assert too_many_missing(used, used, floor=floor, percent=percent, new_key=True)
    assert too_many_missing(0, used, floor=floor, percent=percent, new_key=True) is None
