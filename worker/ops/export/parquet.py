"""Turns CSV into Parquet with DuckDB, in row groups, so that memory is bounded."""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Final

from worker.core.errors import ConfigurationError
from worker.store.export import ExportedColumn

_MEMORY_LIMIT: Final = "128MB"
_ROW_GROUP: Final = 20_480
"""Rows that are held at once; a multiple of DuckDB's vectors."""

_TYPES: Final = {
    "text": "VARCHAR",
    "text[]": "VARCHAR[]",
    "uuid": "UUID",
    "boolean": "BOOLEAN",
    "integer": "INTEGER",
    "bigint": "BIGINT",
    "double precision": "DOUBLE",
    "date": "DATE",
    "timestamp with time zone": "TIMESTAMPTZ",
}


def load_duckdb() -> ModuleType:
    """Return DuckDB. Raises ConfigurationError if it is not installed."""
    try:
        import duckdb
    except ImportError:
        raise ConfigurationError(
            "Parquet needs DuckDB (70 MB), which is not installed: run"
            " 'pip install tenant-mirror[export]', or export with --format csv"
        ) from None
    return duckdb


def get_parquet_type(column: ExportedColumn) -> str:
    """Return DuckDB's type of a column. Raises ConfigurationError if it has none."""
    if column.type not in _TYPES:
        raise ConfigurationError(f"column {column.name} has the type {column.type}, not exported")
    return _TYPES[column.type]


def write_parquet(chunks: Iterator[bytes], columns: Sequence[ExportedColumn], path: Path) -> None:
    """Write CSV with a header as one file of Parquet."""
    duckdb = load_duckdb()
    reading, writing = os.pipe()
    feeder = _Feeder(chunks, writing)
    feeder.start()
    limits = {"memory_limit": _MEMORY_LIMIT, "threads": 1, "preserve_insertion_order": False}
    try:
        with duckdb.connect(config=limits) as db:
            db.execute(_render_copy(reading, columns, path))
    finally:
        os.close(reading)
        feeder.join()
    if feeder.error is not None:
        raise feeder.error


class _Feeder(threading.Thread):
    """Writes what Postgres sends into a pipe, and ends when nobody reads it any more."""

    def __init__(self, chunks: Iterator[bytes], pipe: int) -> None:
        super().__init__(name="export", daemon=True)
        self._chunks = chunks
        self._pipe = pipe
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            with suppress(BrokenPipeError), os.fdopen(self._pipe, "wb") as pipe:
                for chunk in self._chunks:
                    pipe.write(chunk)
        except BaseException as error:  # noqa: BLE001 - raised again in the other thread
            self.error = error


def _render_copy(pipe: int, columns: Sequence[ExportedColumn], path: Path) -> str:
    selected = ", ".join(_select_column(one) for one in columns)
    read = ", ".join(
        f"{_quote(one.name)}: '{'VARCHAR' if one.is_list else get_parquet_type(one)}'"
        for one in columns
    )
    source = (
        f"read_csv('/dev/fd/{pipe}', header = true, auto_detect = false, delim = ',',"
        " quote = '\"', escape = '\"', nullstr = '', allow_quoted_nulls = false,"
        f" parallel = false, max_line_size = 2097152, columns = {{{read}}})"
    )
    to = str(path).replace("'", "''")
    options = f"format parquet, compression zstd, row_group_size {_ROW_GROUP}"
    return f"copy (select {selected} from {source}) to '{to}' ({options})"


def _select_column(column: ExportedColumn) -> str:
    name = _quote(column.name)
    return f"from_json({name}, '[\"VARCHAR\"]') as {name}" if column.is_list else name


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
