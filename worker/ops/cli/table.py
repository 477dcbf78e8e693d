"""Tables for people, drawn by rich.

In a pipe each row is one line, so that grep and awk find whole values. On a terminal a table takes
the width that there is, and what finds no room is printed below its row. Nothing is cut off.

rich is imported when a table is drawn: it takes longer than most commands.
"""

from collections.abc import Collection, Iterator, Sequence
from io import StringIO
from typing import TYPE_CHECKING, Final, NamedTuple

from worker.core.printable import to_one_line
from worker.ops.cli.table_layout import GAP, ColumnSize, TableLayout, add_widths, choose_layout

if TYPE_CHECKING:
    from rich.console import Console

_INDENT: Final = " " * 4
_HANGING: Final = " " * 2
_BETWEEN: Final = " " * 3
_MIN_WIDTH_BELOW: Final = 20
_MIN_HEADER_WIDTH: Final = 10
"""A header is not folded into narrower lines."""
_NO_VALUE: Final = "-"


class RenderedTable(NamedTuple):
    """The lines of a table."""

    header: list[str]
    body: list[str]


class _Column(NamedTuple):
    header: str
    cells: list[str]
    is_numeric: bool
    is_prose: bool


def render_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    width: int | None,
    prose: Collection[str] = (),
) -> RenderedTable:
    """Return the lines of a table; ``prose`` names the columns that may be folded between words.

    Columns of numbers are right-aligned.
    """
    table = [
        _build_column(name, [row[index] for row in rows], name in prose, index == len(columns) - 1)
        for index, name in enumerate(columns)
    ]
    layout = choose_layout(list(map(_measure_column, table)), width)
    inline = [column for index, column in enumerate(table) if index not in layout.below]
    header, lines = _draw(inline, layout, width)
    if not layout.below or width is None:
        return RenderedTable(header, lines)
    hidden = [table[index] for index in sorted(layout.below)]
    body: list[str] = []
    for number, line in enumerate(lines):
        body += [line, *_render_below(hidden, number, width)]
    return RenderedTable(header, body)


def _build_column(name: str, values: list[object], is_prose: bool, is_last: bool) -> _Column:  # noqa: FBT001
    given = [value for value in values if value is not None]
    return _Column(
        to_one_line(name),
        [_render_cell(value, "" if is_last else _NO_VALUE) for value in values],
        bool(given) and all(isinstance(one, float) or type(one) is int for one in given),
        is_prose,
    )


def _render_cell(value: object, empty: str) -> str:
    """Return one line: names in a directory must not control an operator's terminal."""
    if value is None or value == "":
        return empty
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return to_one_line(str(value))


def _measure_column(column: _Column) -> ColumnSize:
    from rich.cells import cell_len

    body = max(map(cell_len, column.cells), default=0)
    header = cell_len(column.header)
    word = max(map(cell_len, column.header.split()), default=0)
    narrow = max(body, word, min(header, _MIN_HEADER_WIDTH))
    return ColumnSize(max(body, header), narrow, column.is_prose)


def _draw(
    columns: Sequence[_Column], layout: TableLayout, width: int | None
) -> tuple[list[str], list[str]]:
    """Return the lines of the header and of the body."""
    from rich.table import Table
    from rich.text import Text

    sizes = list(map(_measure_column, columns))
    needed = add_widths(size.narrow if layout.folds_headers else size.full for size in sizes)
    console = _open_console(width if layout.wraps_prose and width else needed)
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False)
    headers = [
        _fold(console, column.header, size.narrow) if layout.folds_headers else [column.header]
        for column, size in zip(columns, sizes, strict=True)
    ]
    height = max(map(len, headers))
    for column, header in zip(columns, headers, strict=True):
        table.add_column(
            Text("\n" * (height - len(header)) + "\n".join(header)),
            justify="right" if column.is_numeric else "left",
            no_wrap=not (layout.wraps_prose and column.is_prose),
            overflow="fold",
        )
    if layout.wraps_prose:
        for row in zip(*(column.cells for column in columns), strict=True):
            table.add_row(*map(Text, row))
    elif columns[0].cells:
        # Every row is one line: with one cell for a whole column, rich is four times as fast.
        table.add_row(*(Text("\n".join(column.cells)) for column in columns))
    lines = [
        "".join(segment.text for segment in line).rstrip()
        for line in console.render_lines(table, pad=False)
    ]
    return lines[:height], lines[height:]


def _render_below(columns: Sequence[_Column], number: int, width: int) -> Iterator[str]:
    """Yield what of a row found no room beside it, each cell with the name of its column."""
    from rich.cells import cell_len

    room = max(width - len(_INDENT + _HANGING), _MIN_WIDTH_BELOW)
    lines: list[str] = []
    for column in columns:
        if column.cells[number] in ("", _NO_VALUE):
            continue
        part = f"{column.header}: {column.cells[number]}"
        if lines and cell_len(lines[-1] + _BETWEEN + part) <= room:
            lines[-1] += _BETWEEN + part
        else:
            lines.append(part)
    for line in lines:
        first, *others = _fold(_open_console(room), line, room)
        yield _INDENT + first
        yield from (_INDENT + _HANGING + other for other in others)


def _fold(console: "Console", text: str, width: int) -> list[str]:
    """Fold between words, and within words that are longer than a line."""
    from rich.text import Text

    lines = Text(text).wrap(console, width, overflow="fold")
    return [line.plain.rstrip() for line in lines] or [""]


def _open_console(width: int) -> "Console":
    """Open a console that interprets neither markup nor emoji codes and colours nothing."""
    from rich.console import Console

    return Console(
        file=StringIO(), width=width, color_system=None, markup=False, emoji=False, highlight=False
    )
