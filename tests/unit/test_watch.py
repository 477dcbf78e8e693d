"""What a person sees is readable with one customer and with a thousand."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from worker.conditions.condition import Code, Condition, Severity
from worker.ops.local.alarms import (
    MAX_LISTED,
    PATIENCE_SECONDS,
    RESOLVE_SECONDS,
    AlarmTracker,
)
from worker.ops.local.watch import _render_changes_of_many, build_labels

CODES = st.sampled_from([Code.HALTED, Code.LATE, Code.TOKEN_REFUSED])


def condition(
    code: Code,
    connection_id: int | None = None,
    *,
    severity: Severity = Severity.WARNING,
    sentence: str = "is so",
    resource: str | None = None,
) -> Condition:
    return Condition(
        code=code,
        severity=severity,
        subject="all calls" if connection_id is None else f"C{connection_id}",
        sentence=sentence,
        remedy="look",
        connection_id=connection_id,
        resource=resource,
    )


HALTED = condition(Code.HALTED, severity=Severity.CRITICAL, sentence="are halted")
HALTED_LINES = ["CRITICAL halted: all calls are halted", "    do: look"]


def held(number: int) -> list[Condition]:
    return [condition(Code.HELD_DELETIONS, n, resource="users") for n in range(1, number + 1)]


def look(alarms: AlarmTracker, found: list[Condition], now: float) -> list[str]:
    return [*alarms.render_news(found, now), *alarms.render_resolved(found, now)]


def test_a_condition_is_printed_once_with_its_remedy_and_so_is_its_end() -> None:
    alarms = AlarmTracker()
    assert look(alarms, held(1), 0) == ["WARNING held_deletions: C1 (1) is so", "    do: look"]
    assert look(alarms, held(1), 1) == []
    assert look(alarms, [], 2) == ["OVER held_deletions: C1 (1), users"]
    assert look(alarms, [], 3) == []


def test_a_sentence_that_changes_is_not_printed_again_but_a_higher_severity_is() -> None:
    alarms = AlarmTracker()
    look(alarms, [condition(Code.TOKEN_REFUSED, 1)], 0)
    assert look(alarms, [condition(Code.TOKEN_REFUSED, 1, sentence="is so for 2 min")], 1) == []
    worse = condition(Code.TOKEN_REFUSED, 1, severity=Severity.ERROR)
    assert look(alarms, [worse], 2)[0] == "ERROR token_refused: C1 (1) is so"
    assert look(alarms, [condition(Code.TOKEN_REFUSED, 1)], 3) == []
    assert look(alarms, [worse], 4) == []


def test_what_needs_no_attention_is_not_printed_and_ends_nothing() -> None:
    alarms = AlarmTracker()
    calm = condition(Code.THROTTLED_BY_GRAPH, 1, severity=Severity.INFO)
    assert look(alarms, [calm], 0) == []
    look(alarms, [condition(Code.THROTTLED_BY_GRAPH, 1)], 1)
    assert look(alarms, [calm], 2) == []
    assert look(alarms, [], 3) == ["OVER throttled_by_graph: C1 (1)"]


def test_a_halt_that_lapses_and_is_met_again_is_one_halt() -> None:
    alarms = AlarmTracker()
    assert look(alarms, [HALTED], 0) == HALTED_LINES
    for now in (60, 62, 121, 123):
        assert look(alarms, [HALTED] if now % 2 else [], now) == []
    look(alarms, [], 200)
    over = 200 + RESOLVE_SECONDS[Code.HALTED]
    assert look(alarms, [], over) == ["OVER halted: all calls"]
    assert look(alarms, [HALTED], 300) == HALTED_LINES


def test_what_a_start_ends_by_itself_is_not_printed() -> None:
    alarms, silent = AlarmTracker(), condition(Code.DISPATCHER_SILENT)
    patience = PATIENCE_SECONDS[Code.DISPATCHER_SILENT]
    assert look(alarms, [silent], 0) == []
    assert look(alarms, [], 10) == []
    assert look(alarms, [silent], 20) == []
    assert look(alarms, [silent], 20 + patience - 1) == []
    assert len(look(alarms, [silent], 20 + patience)) == 2


def test_many_at_once_are_a_few_lines_and_a_number() -> None:
    alarms = AlarmTracker()
    lines = look(alarms, [*held(86), HALTED], 0)
    assert lines[:2] == HALTED_LINES
    assert len(lines) == 2 * (MAX_LISTED + 1) + 1
    assert "81 more" in lines[-1]
    assert "tenant-mirror status" in lines[-1]
    assert len(look(alarms, [HALTED], 1)) == MAX_LISTED + 1


@given(st.lists(st.sets(st.tuples(CODES, st.integers(1, 9))), max_size=12))
def test_what_is_announced_is_what_lasts(looks: list[set[tuple[Code, int]]]) -> None:
    """An hour between two looks is longer than any patience."""
    alarms, before = AlarmTracker(), set[tuple[Code, int]]()
    for now, keys in enumerate(looks):
        look(alarms, [condition(*key) for key in keys], now * 3600)
        announced = {(key.code, key.connection_id) for key in alarms.announced}
        lasting = {key for key in keys if key[0] not in PATIENCE_SECONDS or key in before}
        assert lasting <= announced
        assert {key for key in announced if key[0] not in RESOLVE_SECONDS} <= keys
        before = keys


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
