"""CSV for spreadsheets: nothing in it is taken for a formula, and it is read back as written."""

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest
from anyio import CapacityLimiter
from hypothesis import given
from hypothesis import strategies as st

from models.run import RunState
from tests.support.hostile import HOSTILE_NAMES
from worker.core.printable import to_one_line
from worker.page.csv_text import MAX_ROWS, Cell, render_cell, render_csv, split
from worker.page.streamed_file import StreamedFile


def read_back(parts: Iterator[bytes]) -> list[list[str]]:
    text = b"".join(parts).decode("utf-8-sig")
    return list(csv.reader(io.StringIO(text, newline="")))


@pytest.mark.parametrize(
    "name",
    ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1+1", "\r=1", " =1", "\uff1d1+1", "\n@x", "\u00a0=1"],
)
def test_what_would_be_a_formula_is_text(name: str) -> None:
    assert render_cell(name).startswith("'")


@given(st.text())
def test_no_text_begins_as_a_formula_and_each_is_read_back(text: str) -> None:
    ((shown,),) = read_back(render_csv((text or "a",), [[]]))
    assert shown.lstrip()[:1] not in {"=", "+", "-", "@"} or shown == (text or "a")
    (_, (cell, last)) = read_back(render_csv(("a", "b"), [[(text, "end")]]))
    assert last == "end"
    assert cell.removeprefix("'") in (to_one_line(text), to_one_line(text).removeprefix("'"))
    assert cell.lstrip()[:1] not in {"=", "+", "-", "@"}


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=range(len(HOSTILE_NAMES)))
def test_a_hostile_name_is_one_cell_of_one_line(name: str) -> None:
    lines = b"".join(render_csv(("a", "b"), [[(name, 1)]])).decode().splitlines()
    assert len(lines) == 2


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, ""),
        (True, "true"),
        (-3, "-3"),
        (0.5, "0.5"),
        (RunState.FAILED, "failed"),
        (datetime(2026, 3, 1, 12, 0, 5, 999, tzinfo=UTC), "2026-03-01T12:00:05Z"),
    ],
)
def test_values_of_every_kind(value: Cell, shown: str) -> None:
    assert render_cell(value) == shown


def test_a_file_has_a_bounded_number_of_rows_and_a_head_without_any() -> None:
    rows = list(range(MAX_ROWS + 700))
    parts = list(render_csv(("id",), split(rows, lambda one: (one,))))
    found = read_back(iter(parts))
    assert (len(found), found[-1]) == (MAX_ROWS + 1, [str(MAX_ROWS - 1)])
    assert len(parts) > 10
    assert read_back(render_csv(("id",), split([], lambda one: (one,)))) == [["id"]]


def send_file(parts: Iterator[bytes]) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def call() -> None:
        async def send(message: Any) -> None:
            sent.append(message)

        file = StreamedFile(parts, "a.csv", "text/csv", CapacityLimiter(1))
        try:
            await file({}, send, send)  # type: ignore[arg-type]
        except ValueError:
            sent.append({"type": "cut off"})

    anyio.run(call)
    return sent


def test_a_file_is_sent_in_parts() -> None:
    start, *bodies = send_file(iter([b"one", b"two"]))
    names = {name for name, _ in start["headers"]}
    assert b"content-disposition" in names
    assert b"content-length" not in names
    assert [one["body"] for one in bodies] == [b"one", b"two", b""]
    assert [one["more_body"] for one in bodies] == [True, True, False]


def test_a_file_that_cannot_be_finished_has_no_end() -> None:
    def make() -> Iterator[bytes]:
        yield b"one"
        raise ValueError("the database is away")

    *_, last, cut = send_file(make())
    assert (last["body"], last["more_body"]) == (b"one", True)
    assert cut["type"] == "cut off"
