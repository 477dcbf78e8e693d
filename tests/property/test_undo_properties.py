"""What a row and its later events say of an earlier moment, whatever has happened since."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from worker.events.undo import CutState, ObjectState, classify_at_cut, undo_event

MIDNIGHT = datetime(2026, 11, 22, tzinfo=UTC)


class Row(NamedTuple):
    """A row as the mirror keeps it: a deleted one stays."""

    first_seen_at: datetime
    changed_at: datetime
    state: dict[str, Any]
    live: bool


@dataclass
class Object:
    """One object of a connection, written as the mirror writes."""

    row: Row | None = None
    last_event_at: datetime | None = None
    events: list[tuple[int, str, Any, Any]] = field(default_factory=list)
    seq: int = 0

    @property
    def state(self) -> ObjectState:
        return self.row.state if self.row and self.row.live else None

    def step(self, what: str, clock: int, value: int) -> None:
        """One transaction; what makes no sense here is an event of another object."""
        moment = MIDNIGHT + timedelta(microseconds=clock)
        if self.last_event_at is not None:
            moment = max(moment, self.last_event_at)
        if what == "silent":
            self._rewrite(moment, value)
            self.last_event_at = moment if self.seq else None
            return
        change, row, before, after = self._outcome(what, moment, value)
        self.seq += 1
        self.last_event_at = moment
        if change:
            self.row = row
            self.events.append((self.seq, change, before, after))

    def _rewrite(self, moment: datetime, value: int) -> None:
        """Writes without an event: a membership that comes dead, another reason of a deletion."""
        if self.row is None:
            self.row = Row(moment, moment, {"a": value, "b": 0}, live=False)
        elif not self.row.live:
            self.row = self.row._replace(changed_at=moment)

    def _outcome(
        self, what: str, moment: datetime, value: int
    ) -> tuple[str | None, Row | None, Any, Any]:
        old, whole = self.row, {"a": value, "b": value % 2}
        if old is None and what == "arrive":
            return "created", Row(moment, moment, whole, live=True), None, whole
        if old is None or what == "other":
            return None, None, None, None
        if not old.live and what == "arrive":
            return "restored", Row(old.first_seen_at, moment, whole, live=True), None, whole
        if old.live and what == "leave":
            gone = old._replace(changed_at=moment, live=False)
            return "deleted", gone, old.state, None
        if old.live and what == "alter" and old.state["a"] != value:
            altered = old._replace(changed_at=moment, state={**old.state, "a": value})
            return "updated", altered, {"a": old.state["a"]}, {"a": value}
        return None, None, None, None


STEPS = st.tuples(
    st.sampled_from(["arrive", "alter", "leave", "other", "silent"]),
    st.integers(0, 3),
    st.integers(0, 3),
)


@given(before=st.lists(STEPS, max_size=8), since=st.lists(STEPS, max_size=8))
def test_the_moment_of_the_cut_is_told_whatever_has_happened_since(
    before: list[tuple[str, int, int]], since: list[tuple[str, int, int]]
) -> None:
    one = Object()
    one.step("other", 0, 0)
    for what, clock, value in before:
        one.step(what, clock, value)
    cut, cut_at, wanted = one.seq, one.last_event_at, one.state
    assert cut_at is not None
    for what, clock, value in since:
        one.step(what, clock, value)
    assert told(one, cut, cut_at) == wanted


def told(one: Object, cut: int, cut_at: datetime) -> ObjectState:
    """What is said of the cut when only the row and the events behind the cut are known."""
    if one.row is None:
        return None
    known = classify_at_cut(one.row.first_seen_at, one.row.changed_at, cut_at)
    if known is CutState.ABSENT:
        return None
    state = one.state
    if known is CutState.NEEDS_UNDO:
        for _, change, before, after in reversed([it for it in one.events if it[0] > cut]):
            problem, state = undo_event(change, state, before, after)
            assert problem is None
    return state


@given(
    state=st.dictionaries(st.sampled_from("abc"), st.none() | st.integers(0, 1)),
    told=st.dictionaries(st.sampled_from("abc"), st.none() | st.integers(0, 1)),
)
def test_a_column_that_an_event_lacks_was_null(state: dict[str, Any], told: dict[str, Any]) -> None:
    """It was added after the event."""
    nulls = dict.fromkeys("abc")
    for change in ("created", "restored"):
        problem, before = undo_event(change, state, None, told)
        assert (problem is None) is ({**nulls, **state} == {**nulls, **told})
        assert before is None
        assert undo_event(change, None, None, told)[0] is not None
