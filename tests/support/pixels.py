"""Colours of a page as they are drawn, from its images."""

import re
import struct
import zlib
from itertools import pairwise

Colour = tuple[int, int, int]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {2: 3, 6: 4}
"""Bytes a pixel by the type of its colour: with and without transparency."""


def read_pixels(image: bytes) -> list[list[Colour]]:
    """The rows of a PNG, as browsers write it: eight bits a channel, not interlaced."""
    assert image.startswith(_SIGNATURE)
    place, packed = len(_SIGNATURE), b""
    width = height = size = 0
    while place < len(image):
        length, kind = struct.unpack_from(">I4s", image, place)
        data = image[place + 8 : place + 8 + length]
        if kind == b"IHDR":
            width, height, depth, colours, *_, interlaced = struct.unpack(">IIBBBBB", data)
            assert (depth, interlaced) == (8, 0)
            size = _CHANNELS[colours]
        elif kind == b"IDAT":
            packed += data
        place += length + 12
    raw, above, rows = zlib.decompress(packed), bytearray(width * size), []
    stride = width * size + 1
    for number in range(height):
        method, *line = raw[number * stride : (number + 1) * stride]
        above = _unfilter(method, bytearray(line), above, size)
        rows.append([(above[x], above[x + 1], above[x + 2]) for x in range(0, len(above), size)])
    return rows


def _unfilter(method: int, line: bytearray, above: bytearray, size: int) -> bytearray:
    for x, value in enumerate(line):
        left = line[x - size] if x >= size else 0
        corner = above[x - size] if x >= size else 0
        guesses = (0, left, above[x], (left + above[x]) // 2, _guess(left, above[x], corner))
        line[x] = (value + guesses[method]) % 256
    return line


def _guess(left: int, above: int, corner: int) -> int:
    sums = left + above - corner
    return min((left, above, corner), key=lambda it: abs(sums - it))


def find_stripes(row: list[Colour]) -> list[tuple[Colour, int]]:
    """Colours from left to right, each with its width."""
    starts = [0, *(x + 1 for x, (a, b) in enumerate(pairwise(row)) if a != b), len(row)]
    return [(row[a], b - a) for a, b in pairwise(starts)]


def parse_colour(css: str) -> Colour:
    """The colour of a computed style."""
    red, green, blue = map(int, re.findall(r"\d+", css)[:3])
    return red, green, blue


def compute_contrast(one: Colour, other: Colour) -> float:
    """The ratio of WCAG 2, from 1 to 21."""
    low, high = sorted((_compute_luminance(one), _compute_luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _compute_luminance(colour: Colour) -> float:
    shares = [part / 255 for part in colour]
    linear = [it / 12.92 if it <= 0.04045 else ((it + 0.055) / 1.055) ** 2.4 for it in shares]
    return sum(map(float.__mul__, (0.2126, 0.7152, 0.0722), linear))
