"""What a person sees is readable with one customer and with a thousand."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from worker.ops.local.alarms import HALT_RESOLVE_SECONDS, MAX_LISTED, AlarmTracker
from worker.ops.local.watch import _render_changes_of_many, build_labels
from worker.store.state.alarms import ActiveAlarm

HALT = ("halt", 0)
HALTED = {HALT: ActiveAlarm("", "HALTED: the key is wrong")}


def held(number: int) -> dict[tuple[str, int], ActiveAlarm]:
    return {
        ("users", n): ActiveAlarm(f"C{n}", "users HELD: too many") for n in range(1, number + 1)
    }


def test_what_stands_still_is_said_once_and_so_is_its_end() -> None:
    alarms = AlarmTracker()
    assert list(alarms.render_changes(held(1), 0)) == ["C1: users HELD: too many"]
    assert list(alarms.render_changes(held(1), 1)) == []
    assert list(alarms.render_changes({}, 2)) == ["C1: works again"]
    assert list(alarms.render_changes({}, 3)) == []


def test_another_reason_is_news() -> None:
    alarms = AlarmTracker()
    list(alarms.render_changes({("broken", 1): ActiveAlarm("C1", "BROKEN: one")}, 0))
    assert list(alarms.render_changes({("broken", 1): ActiveAlarm("C1", "BROKEN: two")}, 1)) == [
        "C1: BROKEN: two"
    ]


def test_a_halt_that_lapses_and_is_met_again_is_one_halt() -> None:
    alarms = AlarmTracker()
    assert list(alarms.render_changes(HALTED, 0)) == ["HALTED: the key is wrong"]
    for now in (60, 62, 121, 123):
        assert list(alarms.render_changes(HALTED if now % 2 else {}, now)) == []
    list(alarms.render_changes({}, 200))
    assert list(alarms.render_changes({}, 200 + HALT_RESOLVE_SECONDS)) == [
        "no longer HALTED: syncs resume"
    ]
    assert list(alarms.render_changes(HALTED, 300)) == ["HALTED: the key is wrong"]


def test_many_at_once_are_a_few_lines_and_a_number() -> None:
    alarms = AlarmTracker()
    lines = list(alarms.render_changes(HALTED | held(86), 0))
    assert lines[0] == "HALTED: the key is wrong"
    assert len(lines) == MAX_LISTED + 2
    assert "81 more" in lines[-1]
    assert "tenant-mirror status" in lines[-1]
    over = list(alarms.render_changes(HALTED, 1))
    assert len(over) == MAX_LISTED + 1


@given(st.lists(st.sets(st.integers(1, 9)), max_size=12))
def test_what_was_said_is_what_stands_still(looks: list[set[int]]) -> None:
    alarms = AlarmTracker()
    for now, ids in enumerate(looks):
        list(
            alarms.render_changes({("broken", n): ActiveAlarm(str(n), "BROKEN") for n in ids}, now)
        )
        assert {key[1] for key in alarms.announced} == ids


def test_customers_of_one_name_are_told_apart() -> None:
    names: list[dict[str, Any]] = [
        {"id": 1, "name": "Contoso"},
        {"id": 2, "name": "Fabrikam"},
        {"id": 3, "name": "Contoso"},
    ]
    assert build_labels(names) == {1: "Contoso (1)", 2: "Fabrikam", 3: "Contoso (3)"}


def test_changes_of_many_customers_are_one_line() -> None:
    moved = [(f"C{n}", n) for n in range(1, 87)]
    line = _render_changes_of_many(moved)
    assert line == "3,741 changes of 86 customers: C86 86, C85 85, C84 84, 83 more"
