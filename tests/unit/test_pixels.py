"""The reader of images that tests of the page rely on."""

import struct
import zlib

import pytest

from tests.support.pixels import compute_contrast, find_stripes, parse_colour, read_pixels

BLACK, WHITE, RED = (0, 0, 0), (255, 255, 255), (255, 0, 0)


def build_png(lines: list[bytes], width: int) -> bytes:
    def build(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data))

    head = struct.pack(">IIBBBBB", width, len(lines), 8, 2, 0, 0, 0)
    body = zlib.compress(b"".join(lines))
    return b"\x89PNG\r\n\x1a\n" + build(b"IHDR", head) + build(b"IDAT", body) + build(b"IEND", b"")


@pytest.mark.parametrize("method", range(5))
def test_each_filter_of_a_row_is_undone(method: int) -> None:
    first = [10, 20, 30, 40, 50, 60]
    guesses = {
        0: [0] * 6,
        1: [0, 0, 0, 10, 20, 30],
        2: [1, 2, 3, 4, 5, 6],
        3: [0, 1, 1, 7, 12, 18],
        4: [1, 2, 3, 10, 20, 30],
    }[method]
    above = bytes([0, 1, 2, 3, 4, 5, 6])
    line = bytes([method, *((a - b) % 256 for a, b in zip(first, guesses, strict=True))])
    rows = read_pixels(build_png([above, line], 2))
    assert rows == [[(1, 2, 3), (4, 5, 6)], [(10, 20, 30), (40, 50, 60)]]


def test_stripes_and_contrast() -> None:
    assert find_stripes([RED, RED, WHITE]) == [(RED, 2), (WHITE, 1)]
    assert compute_contrast(BLACK, WHITE) == pytest.approx(21)
    assert compute_contrast(RED, RED) == 1
    assert parse_colour("rgba(255, 0, 0, 0.5)") == RED
