"""Tables fit the terminal; what does not fit is folded, and nothing is cut off."""

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from worker.ops.cli import table
from worker.ops.cli.output import print_table
from worker.ops.cli.table import (
    detect_terminal_width,
    measure_display_width,
    render_table,
    shrink_columns,
)

COLUMNS = ["id", "connection", "last run"]
ROWS: list[list[object]] = [[1, "entra/contoso", None], [12345, "b", "a held one"]]


def lines(rows: list[list[object]], width: int = 80) -> list[str]:
    return [line.rstrip() for row in render_table(COLUMNS, rows, width) for line in row]


def test_columns_are_as_wide_as_their_widest_cell_and_figures_stand_to_the_right() -> None:
    assert lines(ROWS) == [
        "    id  connection     last run",
        "     1  entra/contoso  -",
        "12,345  b              a held one",
    ]


def test_a_cell_that_is_too_wide_is_folded_between_words_and_within_long_ones() -> None:
    assert lines([[7, "entra/" + "x" * 20, "one two three"]], width=28) == [
        "id  connection  last run",
        " 7  entra/xxxx  one two",
        "    xxxxxxxxxx  three",
        "    xxxxxx",
    ]


def test_the_last_line_of_a_folded_header_stands_above_its_cells() -> None:
    assert lines([[7, "ab", "c"]], width=20) == [
        "    connect  last",
        "id  ion      run",
        " 7  ab       c",
    ]


def test_without_rows_there_is_the_header() -> None:
    assert lines([]) == ["id  connection  last run"]


def test_a_line_break_in_a_cell_is_kept_and_what_steers_a_terminal_is_not() -> None:
    assert lines([[1, "a\nb", "\x1b[31mred\x07"]])[1:] == [" 1  a           [31mred", "    b"]


def test_a_name_is_no_markup() -> None:
    assert lines([[1, "[bold]x[/bold]", ":smile:"]])[1] == " 1  [bold]x[/bold]  :smile:"


@pytest.mark.parametrize(
    ("text", "places"), [("abc", 3), ("größe", 5), ("日本", 4), ("e\N{COMBINING ACUTE ACCENT}", 1)]
)
def test_a_text_takes_the_places_that_a_terminal_gives_it(text: str, places: int) -> None:
    assert measure_display_width(text) == places


@pytest.mark.parametrize(
    ("widths", "room", "found"),
    [
        ([10, 20], 30, [10, 20]),
        ([10, 40], 30, [10, 20]),
        ([10, 40, 30], 40, [10, 15, 15]),
        ([10, 10, 10], 15, [5, 5, 5]),
    ],
)
def test_the_widest_columns_give_way_first(widths: list[int], room: int, found: list[int]) -> None:
    assert shrink_columns(widths, room) == found


@given(st.lists(st.integers(1, 200), min_size=1, max_size=12), st.integers(12, 200))
def test_columns_never_take_more_room_than_there_is(widths: list[int], room: int) -> None:
    found = shrink_columns(widths, room)
    assert sum(found) == min(sum(widths), room)
    assert all(0 <= now <= before for now, before in zip(found, widths, strict=True))


@given(st.lists(st.text(max_size=60), min_size=3, max_size=3), st.integers(40, 120))
def test_nothing_is_cut_off_and_no_line_is_too_long(texts: list[str], width: int) -> None:
    row: list[object] = list(texts)
    _, body = render_table(COLUMNS, [row], width)
    assert all(measure_display_width(line) <= width for line in body)
    printed = "".join(body)
    shown = "".join(table.CONTROL_CHARACTERS.sub("", text) for text in texts)
    assert sorted("".join(printed.split())) == sorted("".join(shown.split()))


def test_the_terminal_says_how_wide_a_table_may_be() -> None:
    assert detect_terminal_width({"COLUMNS": "132"}) == 132
    assert detect_terminal_width({"COLUMNS": "wide"}) == detect_terminal_width({})


def test_a_title_stands_above_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")

    def show() -> None:
        print_table("streams", COLUMNS, ROWS[:1])

    printed = CliRunner().invoke(click.command()(show)).output
    assert [line.rstrip() for line in printed.splitlines()] == [
        "streams",
        "id  connection     last run",
        " 1  entra/contoso  -",
    ]
