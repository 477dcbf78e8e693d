"""Deletions that are not believable wait for a person."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.sync.guard import (
    check_deletion,
    check_missing_connections,
    explain_hidden_members,
    sample,
)
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
    assert (check_deletion(POLICY, deleted=going, live_rows=live) is not None) is held


@pytest.mark.parametrize("going", [1, 3, 50, 5000])
def test_an_empty_answer_for_a_table_that_is_not_is_held(going: int) -> None:
    said = check_deletion(POLICY, deleted=going, live_rows=going, is_empty_answer=True)
    assert said is not None
    assert str(going) in said


def test_an_empty_answer_for_an_empty_table_is_believed() -> None:
    assert check_deletion(POLICY, deleted=0, live_rows=0, is_empty_answer=True) is None


def test_the_reason_tells_the_numbers_and_the_bound() -> None:
    said = check_deletion(Policy(guard_percent=12.5, guard_rows=0), deleted=3, live_rows=10)
    assert said == "3 of 10 rows (30 %) would be deleted, more than 12.5 %"


def test_at_a_hundred_percent_only_an_empty_answer_is_held() -> None:
    lenient = Policy(guard_percent=100, guard_rows=0)
    assert check_deletion(lenient, deleted=10, live_rows=10) is None
    assert check_deletion(lenient, deleted=10, live_rows=10, is_empty_answer=True)


@given(going=st.integers(0, 10**6), live=st.integers(0, 10**6), more=st.integers(0, 10**6))
def test_a_larger_deletion_is_never_believed_sooner(going: int, live: int, more: int) -> None:
    if check_deletion(POLICY, deleted=going, live_rows=live) is not None:
        assert check_deletion(POLICY, deleted=going + more, live_rows=live) is not None


@given(size=st.integers(0, 1000), everything=st.integers(0, 300), otherwise=st.integers(1, 100))
def test_a_sample_is_even_and_without_repeats(size: int, everything: int, otherwise: int) -> None:
    keys = [str(number) for number in range(size)]
    found = sample(keys, all_up_to=max(everything, otherwise), size=otherwise)
    if size <= max(everything, otherwise):
        assert found == keys
    else:
        assert len(found) == len(set(found)) == otherwise
        places = [int(key) for key in found]
        assert places == sorted(places)
        gaps = {later - sooner for sooner, later in pairwise(places)}
        assert not gaps or max(gaps) - min(gaps) <= 1


def test_hidden_members_are_counted_and_the_permission_is_named() -> None:
    one, more = explain_hidden_members("groups", 1, 3), explain_hidden_members("groups", 2, 40)
    assert "all 3 members that are left of a group" in one
    assert "all 40 members that are left of 2 groups" in more
    assert "Member.Read.Hidden" in one


@given(st.integers(0, 500), st.integers(1, 500), st.integers(0, 20), st.floats(1, 100))
def test_missing_customers_are_held_by_number_and_share(
    missing: int, present: int, floor: int, percent: float
) -> None:
    used = missing + present
    held = check_missing_connections(
        missing, used, min_missing=floor, percent=percent, has_new_key=False
    )
    assert (held is not None) == (missing > floor and 100 * missing / used > percent)


@given(st.integers(1, 500), st.integers(0, 1000), st.floats(1, 100))
def test_a_new_key_that_knows_no_customer_is_never_believed(
    used: int, floor: int, percent: float
) -> None:
    assert check_missing_connections(
        used, used, min_missing=floor, percent=percent, has_new_key=True
    )
    assert (
        check_missing_connections(0, used, min_missing=floor, percent=percent, has_new_key=True)
        is None
    )
