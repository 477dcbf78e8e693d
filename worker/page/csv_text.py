"""Tables as CSV for spreadsheets. Pure."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import Final, TypeVar

from worker.core.printable import to_one_line

CSV_TYPE: Final = "text/csv; charset=utf-8"
MAX_ROWS: Final = 10_000
"""Most rows of a file; a filter finds the others."""
ROWS_A_PART: Final = 500
_BYTE_ORDER_MARK: Final = "\ufeff"
"""Without it, spreadsheets take UTF-8 for something else."""
_FORMULA_SIGNS: Final = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a spreadsheet may take for the start of a formula, also in their wide forms."""

Cell = str | int | float | bool | datetime | None
Row = Sequence[Cell]
Item = TypeVar("Item")


def render_csv(heads: Sequence[str], chunks: Iterable[Sequence[Row]]) -> Iterator[bytes]:
    """Yield a file in parts: its head with the first chunk of rows, then each other chunk.

    A text that would be a formula begins with an apostrophe. It has ``MAX_ROWS`` rows at most.
    """
    written, is_first = 0, True
    for chunk in chunks:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\r\n")
        if is_first:
            text.write(_BYTE_ORDER_MARK)
            writer.writerow(heads)
        rows = chunk[: MAX_ROWS - written]
        writer.writerows([render_cell(one) for one in row] for row in rows)
        written, is_first = written + len(rows), False
        yield text.getvalue().encode("utf-8", "replace")
        if written == MAX_ROWS:
            return


def render_cell(value: Cell) -> str:
    """Return a value as text: times in UTC by ISO 8601, nothing for none."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case datetime():
            return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        case Enum():
            return str(value.value)
    shown = to_one_line(value)
    return f"'{shown}" if shown.lstrip().startswith(_FORMULA_SIGNS) else shown


def split(found: Sequence[Item], build: Callable[[Item], Row]) -> Iterator[Sequence[Row]]:
    """Yield the rows of what was found in chunks, one at least."""
    for start in range(0, max(1, len(found)), ROWS_A_PART):
        yield [build(one) for one in found[start : start + ROWS_A_PART]]
