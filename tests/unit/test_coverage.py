"""Which columns walks bring, and since which event events tell them."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from models.resources import RESOURCES
from worker.store.state.streams import Stream
from worker.sync.coverage import CoverageChange, find_coverage_change, note_coverage_change

USERS = RESOURCES["users"]
SOME = USERS.column_names[:6]
walked = st.none() | st.sets(st.sampled_from(SOME)).map(sorted)


def users(columns: list[str] | None) -> Stream:
    return Stream(resource=USERS, walked_columns=columns)


@given(before=walked, after=walked)
def test_columns_are_added_and_dropped_in_their_order(
    before: list[str] | None, after: list[str] | None
) -> None:
    change = find_coverage_change(users(before), users(after))
    if before is None or after is None or before == after:
        assert change is None, "nor is anything told of a first load"
        return
    assert change is not None
    assert sorted(change.added) == sorted(set(after) - set(before))
    assert sorted(change.dropped) == sorted(set(before) - set(after))
    assert change.added == sorted(change.added, key=SOME.index)


def test_relations_are_no_columns() -> None:
    groups = Stream(resource=RESOURCES["groups"], walked_columns=["id"])
    assert find_coverage_change(groups, replace(groups, walked_columns=["id", "members"])) is None


@given(st.lists(st.tuples(st.sets(st.sampled_from(SOME)), st.sets(st.sampled_from(SOME)))))
def test_a_column_is_told_since_its_last_beginning(steps: list[tuple[set[str], set[str]]]) -> None:
    stream, since = users(list(SOME)), dict[str, int]()
    for seq, (added, others) in enumerate(steps, 1):
        change = CoverageChange(sorted(added), sorted(others - added))
        since |= dict.fromkeys(change.added, seq)
        since = {name: first for name, first in since.items() if name not in change.dropped}
        stream = note_coverage_change(stream, change, seq)
        assert (stream.covered_since or {}) == since
