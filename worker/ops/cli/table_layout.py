"""Decides how a table fits the terminal."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TextIO

GAP: Final = 2
"""Blanks between two columns."""
DEFAULT_WIDTH: Final = 80
DEFAULT_HEIGHT: Final = 24
MIN_PROSE_WIDTH: Final = 30
"""Prose is hard to read in a narrower column: it is then printed below its row."""


class ColumnSize(NamedTuple):
    """The widths that a column needs."""

    full: int
    """With its header on one line."""
    narrow: int
    """With its header folded between words."""
    is_prose: bool
    """Whether its cells may be folded between words, too."""


@dataclass(frozen=True)
class TableLayout:
    """How a table fits the terminal."""

    folds_headers: bool = False
    wraps_prose: bool = False
    below: frozenset[int] = frozenset()
    """Columns that are printed below their rows."""


def detect_width(stdout: TextIO, environment: Mapping[str, str] = os.environ) -> int | None:
    """Return COLUMNS, or else the width of the terminal; None for a pipe, which has none.

    ``watch`` reads from a pipe and sets COLUMNS. A terminal without a size has ``DEFAULT_WIDTH``.
    """
    wanted = environment.get("COLUMNS", "")
    if wanted.isdigit() and int(wanted) > 0:
        return int(wanted)
    return (
        os.get_terminal_size(stdout.fileno()).columns or DEFAULT_WIDTH if stdout.isatty() else None
    )


def detect_height(stdout: TextIO, environment: Mapping[str, str] = os.environ) -> int | None:
    """Return LINES, or else the lines of the terminal; None for a pipe, which has no end."""
    wanted = environment.get("LINES", "")
    if wanted.isdigit() and int(wanted) > 0:
        return int(wanted)
    return (
        os.get_terminal_size(stdout.fileno()).lines or DEFAULT_HEIGHT if stdout.isatty() else None
    )


def choose_layout(sizes: Sequence[ColumnSize], width: int | None) -> TableLayout:
    """Return the first that fits: one line a row, folded prose, columns below their rows.

    Prose goes below first, the widest column of it before others; then the last columns go. The
    first column always stays.
    """
    if width is None or add_widths(size.full for size in sizes) <= width:
        return TableLayout()
    if add_widths(map(_get_folded_width, sizes)) <= width:
        return TableLayout(folds_headers=True, wraps_prose=True)
    candidates = sorted(
        range(1, len(sizes)),
        key=lambda index: (not sizes[index].is_prose, -_get_prose_width(sizes[index]), -index),
    )
    inline = set(range(len(sizes)))
    for index in candidates:
        if add_widths(sizes[one].narrow for one in inline) <= width:
            break
        inline.remove(index)
    return TableLayout(folds_headers=True, below=frozenset(range(len(sizes))) - inline)


def add_widths(widths: Iterable[int]) -> int:
    """Return the width of columns and the gaps between them."""
    found = list(widths)
    return sum(found) + GAP * (len(found) - 1)


def _get_folded_width(size: ColumnSize) -> int:
    return min(size.narrow, MIN_PROSE_WIDTH) if size.is_prose else size.narrow


def _get_prose_width(size: ColumnSize) -> int:
    return size.narrow if size.is_prose else 0
