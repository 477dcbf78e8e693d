"""What ``status --watch`` shows, in the room that there is: what needs attention first. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

from worker.conditions.condition import Condition
from worker.core.printable import to_one_line
from worker.core.time_text import render_age, render_count
from worker.ops.cli.attention_rows import SEVERITY_COLORS, build_attention_rows, fit_cells
from worker.ops.cli.screen_lines import EMPTY_LINE, ScreenLine, fold_lines
from worker.ops.cli.status_text import (
    build_connection_lines,
    build_state_lines,
    render_totals,
)
from worker.overview.fleet import Fleet, FleetConnection
from worker.store.service.workers import Worker


@dataclass(frozen=True)
class FleetLook:
    """The fleet as it was found, and what is shown of it."""

    fleet: Fleet
    workers: Sequence[Worker]
    rows: Sequence[FleetConnection]
    """The connections that are shown, the most severe first."""
    connection_id: int | None = None
    """The only connection that is shown, with everything about it."""


@dataclass(frozen=True)
class WatchState:
    """The last look, and whether later ones failed."""

    look: FleetLook | None
    age: float
    """Seconds since the last look."""
    interval: float
    problem: str | None = None
    """Why later looks failed."""


def build_screen(state: WatchState, width: int, height: int) -> list[ScreenLine]:
    """Return at most ``height`` lines of at most ``width`` cells."""
    footer = ScreenLine(_render_footer(state), is_bold=state.problem is not None)
    lines = [] if height < 2 else _build_lines(state, width, height - 1)
    shown = [*lines, *[EMPTY_LINE] * (height - 1 - len(lines)), footer]
    return [
        line._replace(text=fit_cells(f"{line.indent}{to_one_line(line.text)}", width), indent="")
        for line in shown
    ]


def _render_footer(state: WatchState) -> str:
    if state.look is None:
        return state.problem or "looking; q ends"
    if state.problem is not None:
        return f"as of {render_age(state.age)} ago: {state.problem}; q ends"
    return f"as of {render_age(state.age)} ago, every {state.interval:g} s; q ends"


def _build_lines(state: WatchState, width: int, room: int) -> list[ScreenLine]:
    look = state.look
    if look is None:
        return []
    top = [ScreenLine(render_totals(look.fleet), is_bold=True)]
    top += [_build_condition_row(one) for one in look.fleet.conditions]
    details = list(build_state_lines(look.fleet, look.workers))
    number, build_rows = _list_body(look, width)
    if len(top) + len(details) + 1 + number <= room:
        return [top[0], *details, *top[1:], EMPTY_LINE, *build_rows(number)]
    if len(top) + number <= room:
        return [*top, *build_rows(number)]
    kept = max(0, room - 1)
    shown = top[:kept]
    shown += build_rows(kept - len(shown))
    left_out = render_count(len(top) + number - len(shown), "line")
    return [*shown, ScreenLine(f"{left_out} more than this window has room for")][:room]


def _list_body(look: FleetLook, width: int) -> tuple[int, Callable[[int], list[ScreenLine]]]:
    """Return how many lines the connections need, and what builds the first of them."""
    if look.connection_id is None:
        rows = look.rows
        return len(rows), lambda number: list(build_attention_rows(rows[:number], width))
    one = look.fleet.by_id.get(look.connection_id)
    lines = fold_lines([] if one is None else build_connection_lines(one, look.fleet.now), width)
    return len(lines), lambda number: list(islice(lines, number))


def _build_condition_row(one: Condition) -> ScreenLine:
    text = f"{one.severity.upper()} {one.code}: {one.subject} {one.sentence}"
    return ScreenLine(text, color=SEVERITY_COLORS.get(one.severity))
