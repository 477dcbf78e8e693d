"""What needs attention as one row a connection, for a screen that has no room for more."""

from collections.abc import Iterator, Sequence
from typing import Final

from worker.conditions.condition import Condition, Severity
from worker.core.printable import to_one_line
from worker.ops.cli.screen_lines import ScreenLine
from worker.overview.fleet import FleetConnection

SEVERITY_COLORS: Final = {
    Severity.WARNING: "yellow",
    Severity.ERROR: "red",
    Severity.CRITICAL: "red",
}
_MAX_NAME_WIDTH: Final = 20
_MIN_SENTENCE_WIDTH: Final = 16
_GAP: Final = "  "
_CUT: Final = "..."


def build_attention_rows(rows: Sequence[FleetConnection], width: int) -> Iterator[ScreenLine]:
    """Yield a row for each connection: id, name, its most severe condition, and why."""
    if not rows:
        return
    ids = max(len(str(one.id)) for one in rows)
    codes = max(len(_get_code(one)) for one in rows)
    left = width - ids - codes - 3 * len(_GAP) - _MIN_SENTENCE_WIDTH
    names = max(0, min(_MAX_NAME_WIDTH, left))
    for one in rows:
        parts = [f"{one.id:>{ids}}", f"{_get_code(one):<{codes}}", _describe(one)]
        if names:
            parts.insert(1, fit_cells(to_one_line(one.facts.title), names, pad=True))
        severity = one.severity
        yield ScreenLine(
            fit_cells(_GAP.join(parts), width),
            color=None if severity is None else SEVERITY_COLORS.get(severity),
        )


def _get_code(one: FleetConnection) -> str:
    condition = _get_condition(one)
    return condition.code.value if condition else one.facts.status


def _describe(one: FleetConnection) -> str:
    condition = _get_condition(one)
    if condition is None:
        return to_one_line(one.activity.sentence)
    others = len(one.conditions) - 1
    more = f"(+{others}) " if others else ""
    return to_one_line(f"{more}{condition.sentence}")


def _get_condition(one: FleetConnection) -> Condition | None:
    return one.conditions[0] if one.conditions else None


def fit_cells(text: str, width: int, *, pad: bool = False) -> str:
    """Return the text in at most so many cells of a terminal; what is cut off ends in dots."""
    from rich.cells import cell_len, set_cell_size

    taken = cell_len(text)
    if taken > width:
        room = max(0, width - len(_CUT))
        text = f"{set_cell_size(text, room).rstrip()}{_CUT}"[:width]
        taken = cell_len(text)
    return text + " " * (width - taken) if pad else text
