"""Rows of CSV become one file of Parquet, however many and wherever it is."""

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from worker.core.errors import StateConflict
from worker.ops.export import parquet
from worker.store.export import ExportedColumn

COLUMNS = [
    ExportedColumn("number", "integer", None),
    ExportedColumn("name", "text", None),
    ExportedColumn("tags", "text[]", None),
]
HEADER = b"number,name,tags\n"


def build_rows(count: int) -> Iterator[bytes]:
    """Rows whose names have what a reader of CSV could take for an end of a row."""
    yield HEADER
    for number in range(count):
        yield f'{number},"first, ""{number}""\nsecond","[""a"",""{number}""]"\n'.encode()


@pytest.mark.parametrize("count", [0, 1, 5000])
def test_rows_of_many_pieces_are_in_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(parquet, "_PIECE_BYTES", 10_000)
    folder = tmp_path / "number=7 [a-z]*'?"
    folder.mkdir()
    parquet.write_parquet(build_rows(count), COLUMNS, folder / "people.parquet")
    assert [path.name for path in folder.iterdir()] == ["people.parquet"]
    with duckdb.connect() as db:
        # Opened by another name, as this one would be a pattern.
        plain = folder.rename(tmp_path / "plain") / "people.parquet"
        found = db.execute(f"select * from '{plain}' order by number").fetchall()
    expected = [(n, f'first, "{n}"\nsecond', ["a", str(n)]) for n in range(count)]
    assert found == expected


def test_what_duckdb_refuses_is_told_without_the_row(tmp_path: Path) -> None:
    rows = [HEADER, b"1,Anna,\n", b'seven,"Secret Name",\n']
    with pytest.raises(StateConflict, match=r"people\.parquet \(ConversionException\)") as failed:
        parquet.write_parquet(iter(rows), COLUMNS, tmp_path / "people.parquet")
    assert "Secret" not in str(failed.value)
    assert failed.value.__cause__ is None
