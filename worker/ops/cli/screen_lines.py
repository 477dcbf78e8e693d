"""Lines for a terminal: each of one style, folded between words to the terminal's width."""

import sys
import textwrap
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import click

from worker.core.printable import to_one_line
from worker.ops.cli.table_layout import detect_width

_MIN_WRAP_WIDTH: Final = 40


class ScreenLine(NamedTuple):
    """A line as it is shown."""

    text: str
    indent: str = ""
    is_bold: bool = False
    color: str | None = None


EMPTY_LINE: Final = ScreenLine("")


def fold_lines(lines: Iterable[ScreenLine], width: int | None) -> list[ScreenLine]:
    """Fold lines between words; without a width, as in a pipe, each stays one line."""
    return [part for line in lines for part in _fold(line, width)]


def _fold(line: ScreenLine, width: int | None) -> Iterator[ScreenLine]:
    text = to_one_line(line.text)
    if width is None or not text:
        yield line._replace(text=f"{line.indent}{text}", indent="")
        return
    parts = textwrap.wrap(
        text,
        max(width, _MIN_WRAP_WIDTH),
        initial_indent=line.indent,
        subsequent_indent=f"{line.indent}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    for part in parts:
        yield line._replace(text=part, indent="")


def print_lines(lines: Iterable[ScreenLine]) -> None:
    """Print lines to stdout, folded to its width."""
    for line in fold_lines(lines, detect_width(sys.stdout)):
        click.secho(line.text, bold=line.is_bold or None, fg=line.color)
