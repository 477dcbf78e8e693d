"""Tables in pipes and on terminals: whole values, no line wider than the terminal."""

import contextlib
import io
import os
import pty
import struct
import termios
from fcntl import ioctl

import click
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from worker.core.printable import to_one_line
from worker.ops.cli.output import print_table
from worker.ops.cli.table import render_table
from worker.ops.cli.table_layout import (
    MIN_PROSE_WIDTH,
    ColumnSize,
    TableLayout,
    add_widths,
    choose_layout,
    detect_width,
)

COLUMNS = ["id", "connection", "last run", "why"]
LONG_ID = "entra/62e8e08e-bb85-4dcc-8d49-bb50177be443"
ROWS: list[list[object]] = [
    [1, LONG_ID, None, ""],
    [12345, "b", "a held one", "150 of 400 users would be deleted; approve them"],
]


def lines(rows: list[list[object]], width: int | None = None) -> list[str]:
    table = render_table(COLUMNS, rows, width, prose=("why",))
    return [*table.header, *table.body]


def test_a_row_is_one_line_where_there_is_room() -> None:
    expected = [
        "    id  connection                                  last run    why",
        f"     1  {LONG_ID}  -",
        f"12,345  b{' ' * 43}a held one  150 of 400 users would be deleted; approve them",
    ]
    assert lines(ROWS) == lines(ROWS, 200) == expected


def test_prose_is_folded_between_words_where_it_keeps_a_readable_width() -> None:
    assert lines(ROWS, 96) == [
        "    id  connection                                  last run    why",
        f"     1  {LONG_ID}  -",
        "12,345  b                                           a held one  150 of 400 users would be",
        " " * 64 + "deleted; approve them",
    ]


def test_what_has_no_room_beside_a_row_is_printed_below_it() -> None:
    assert lines(ROWS, 66) == [
        "    id  connection                                  last run",
        f"     1  {LONG_ID}  -",
        "12,345  b                                           a held one",
        "    why: 150 of 400 users would be deleted; approve them",
    ]
    assert lines(ROWS, 55)[2:] == [
        "12,345  b",
        "    last run: a held one",
        "    why: 150 of 400 users would be deleted; approve",
        "      them",
    ]


def test_short_values_share_the_line_below_a_row() -> None:
    table = render_table(["connection", "state", "calls"], [["x" * 30, "failed", 12]], 36)
    assert table.body == ["x" * 30, "    state: failed   calls: 12"]


def test_a_header_is_folded_before_anything_else() -> None:
    table = render_table(["sink", "connections behind", "of"], [["stream", 3, 4]], 24)
    assert table.header == ["        connections", "sink         behind  of"]
    assert table.body == ["stream            3   4"]


def test_without_rows_there_is_the_header() -> None:
    assert lines([]) == ["id  connection  last run  why"]


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        (True, "yes"),
        ("[bold]x[/bold] :smile:", "[bold]x[/bold] :smile:"),
        ("a\nb\u00a0c", "a b c"),
        ("\x1b[31mred\x07", "\ufffd[31mred\ufffd"),
        ("left\u202eright", "left\ufffdright"),
    ],
)
def test_a_cell_is_one_line_without_markup_or_control_characters(cell: object, shown: str) -> None:
    assert render_table(["n", "end"], [[cell, "x"]], None).body == [f"{shown}  x"]


def test_an_empty_cell_is_a_dash_so_that_programs_count_the_columns_right() -> None:
    assert render_table(["a", "b", "c"], [["", None, None]], None).body == ["-  -"]


@pytest.mark.parametrize("name", ["größe", "日本", "e\N{COMBINING ACUTE ACCENT}"])
def test_columns_are_aligned_whatever_a_terminal_makes_of_a_name(name: str) -> None:
    first, second = render_table(["name", "end"], [[name, "x"], ["abcdefgh", "x"]], None).body
    assert cell_len(first) == cell_len(second) == 11


sizes = st.builds(
    lambda narrow, more, prose: ColumnSize(narrow + more, narrow, prose),
    st.integers(1, 200),
    st.integers(0, 30),
    st.booleans(),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(sizes, min_size=1, max_size=12), st.integers(20, 300))
def test_a_layout_fits_or_leaves_the_first_column_alone(
    columns: list[ColumnSize], width: int
) -> None:
    layout = choose_layout(columns, width)
    inline = [size for index, size in enumerate(columns) if index not in layout.below]
    assert 0 not in layout.below
    if layout == TableLayout():
        least = [size.full for size in inline]
    elif layout.wraps_prose:
        least = [min(s.narrow, MIN_PROSE_WIDTH if s.is_prose else s.narrow) for s in inline]
    else:
        least = [size.narrow for size in inline]
    assert len(inline) == 1 or add_widths(least) <= width
    assert choose_layout(columns, None) == TableLayout()


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.lists(st.text(max_size=60), min_size=4, max_size=4), max_size=3),
    st.integers(70, 200),
)
def test_nothing_is_cut_off_and_no_line_is_too_long(texts: list[list[str]], width: int) -> None:
    rows: list[list[object]] = [[str(number), *row[1:]] for number, row in enumerate(texts)]
    shown = render_table(COLUMNS, rows, width, prose=("why",))
    assert all(cell_len(line) <= width for line in [*shown.header, *shown.body])
    printed = sorted("".join("".join(shown.body).split()))
    for row in rows:
        for cell in "".join("".join(map(to_one_line, map(str, row))).split()):
            printed.remove(cell)
    assert set(printed) <= set("-:whylastrunconnection")


def test_a_pipe_has_no_width_unless_columns_is_set() -> None:
    pipe = io.StringIO()
    assert detect_width(pipe, {}) is None
    assert detect_width(pipe, {"COLUMNS": "132"}) == 132
    assert detect_width(pipe, {"COLUMNS": "wide"}) is None


def test_a_title_stands_above_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")

    def show() -> None:
        print_table("streams", COLUMNS[:3], [[1, "entra/contoso", None]])

    assert CliRunner().invoke(click.command()(show)).output.splitlines() == [
        "streams",
        "id  connection     last run",
        " 1  entra/contoso",
    ]


def test_a_terminal_says_how_wide_it_is_and_gets_bold_headers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 66, 0, 0))
    with os.fdopen(theirs, "w") as terminal, contextlib.redirect_stdout(terminal):
        print_table("", COLUMNS, ROWS, prose=("why",))
        terminal.flush()
        header, *body = lines(ROWS, 66)
        printed = b""
        while printed.count(b"\n") < 1 + len(body):
            printed += os.read(ours, 65_536)
    os.close(ours)
    assert printed.decode().splitlines() == [f"\x1b[1m{header}\x1b[0m", *body]
