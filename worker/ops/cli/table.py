"""Tables for people, as wide as their terminal. Long cells are wrapped, never cut off."""

import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Final

PADDING: Final = 1
"""Blanks on either side of a column, except at the edges of the table."""
DEFAULT_WIDTH: Final = 80
"""Width of a table without a terminal."""

_WORD: Final = re.compile(r"\s*\S+\s*")
CONTROL_CHARACTERS: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
"""Control characters: names in a directory must not control an operator's terminal."""


def detect_terminal_width(environment: Mapping[str, str] = os.environ) -> int:
    """Return COLUMNS, or else the width of the terminal, if there is one."""
    told = environment.get("COLUMNS", "")
    if told.isdigit() and int(told) > 0:
        return int(told)
    for stream in range(3):
        try:
            width = os.get_terminal_size(stream).columns
        except OSError:
            continue
        if width > 0:
            return width
    return DEFAULT_WIDTH


def render_table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], width: int
) -> Iterator[Sequence[str]]:
    """Yield the lines of the header, then those of each row; numbers are right-aligned."""
    texts = [list(columns), *([_render_cell(value) for value in row] for row in rows)]
    right = [
        bool(rows) and all(isinstance(row[index], int | float) for row in rows)
        for index in range(len(columns))
    ]
    left_pads = [PADDING if index else 0 for index in range(len(columns))]
    right_pads = [*left_pads[1:], 0]
    pads = [one + other for one, other in zip(left_pads, right_pads, strict=True)]
    natural = [
        min(max(max(map(measure_display_width, text.split("\n"))) for text in column) + pad, width)
        for column, pad in zip(zip(*texts, strict=True), pads, strict=True)
    ]
    widths = [max(1, w - pad) for w, pad in zip(shrink_columns(natural, width), pads, strict=True)]
    for row in texts:
        folded = list(map(_fold, row, widths))
        if row is texts[0]:
            height = max(map(len, folded))
            folded = [[""] * (height - len(lines)) + lines for lines in folded]
        yield [
            (" " * 2 * PADDING).join(map(_pad, parts, widths, right))
            for parts in zip_longest(*folded, fillvalue="")
        ]


def shrink_columns(widths: Sequence[int], room: int) -> list[int]:
    """Shrink the widest columns until all fit, then all alike."""
    found = list(widths)
    while (excess := sum(found) - room) > 0:
        widest = max(found)
        second = max((one for one in found if one != widest), default=0)
        if widest == second or not second:
            break
        most = min(excess, widest - second)
        found = _share_excess(found, [one == widest for one in found], excess, most)
    if (excess := sum(found) - room) > 0:
        found = _share_excess(found, [True] * len(found), excess, excess)
    return found


def _share_excess(widths: list[int], shrinks: list[bool], excess: int, most: int) -> list[int]:
    """Share an excess among the columns that shrink, at most ``most`` to each."""
    found, left = list(widths), sum(shrinks)
    for index, shrink in enumerate(shrinks):
        if shrink:
            taken = min(most, widths[index], round(excess / left))
            found[index] -= taken
            excess -= taken
            left -= 1
    return found


def measure_display_width(text: str) -> int:
    """Return the terminal columns that a text takes."""
    return len(text) if text.isascii() else sum(map(_measure_character, text))


def _measure_character(letter: str) -> int:
    if unicodedata.category(letter) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def _fold(text: str, width: int) -> list[str]:
    return [line for part in text.split("\n") for line in _wrap(part, width)]


def _wrap(line: str, width: int) -> list[str]:
    """Wrap between words, and within words that are too long for a line."""
    done: list[str] = []
    now = ""
    for word in _WORD.findall(line):
        needs = measure_display_width(word.rstrip())
        if measure_display_width(now) + needs <= width:
            now += word
            continue
        if now:
            done.append(now)
        *full, now = _split_word(word, width) if needs > width else [word]
        done += full
    return [*done, now]


def _split_word(word: str, width: int) -> list[str]:
    parts, room = [""], width
    for letter in word:
        needs = measure_display_width(letter)
        if needs > room and parts[-1]:
            parts.append("")
            room = width
        parts[-1] += letter
        room -= needs
    return parts


def _pad(text: str, width: int, to_right: bool) -> str:  # noqa: FBT001 - mapped over
    bare = text.rstrip()
    blanks = " " * (width - measure_display_width(bare))
    return blanks + bare if to_right else bare + blanks


def _render_cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return CONTROL_CHARACTERS.sub("", str(value))
