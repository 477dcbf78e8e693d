"""Turns CSV into Parquet with DuckDB, in row groups, so that memory is bounded."""

import errno
import glob
import os
import shutil
from collections.abc import Iterator, Sequence
from itertools import count, islice
from pathlib import Path
from types import ModuleType
from typing import Final

from worker.core.errors import ConfigurationError, StateConflict
from worker.store.export import ExportedColumn

_MEMORY_LIMIT: Final = "128MB"
"""A bound for the widest rows; usual ones take 35 MB."""
_ROW_GROUP: Final = 20_480
"""Rows that are held at once; a multiple of DuckDB's vectors."""
_ROW_GROUP_BYTES: Final = 4_194_304
"""A row group ends with the vector that reaches it."""
_PIECE_BYTES: Final = 8_388_608
"""DuckDB keeps what it has read of a file of CSV, up to its limit, until that file ends."""
_MAX_ROW_BYTES: Final = 2_097_152

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
            " pip install 'tenant-mirror[export]', or export with --format csv"
        ) from None
    return duckdb


def get_parquet_type(column: ExportedColumn) -> str:
    """Return DuckDB's type of a column. Raises ConfigurationError if it has none."""
    if column.type not in _TYPES:
        raise ConfigurationError(f"column {column.name} has the type {column.type}, not exported")
    return _TYPES[column.type]


def write_parquet(chunks: Iterator[bytes], columns: Sequence[ExportedColumn], path: Path) -> None:
    """Write CSV, of which each chunk is the header or a row, as one file of Parquet.

    Meanwhile its rows are in a folder beside it, which is left there by a failure. Raises OSError
    if the disk is full, StateConflict if DuckDB cannot write it otherwise.
    """
    duckdb = load_duckdb()
    folder = path.with_suffix(".rows")
    folder.mkdir(mode=0o700)
    _write_pieces(islice(chunks, 1, None), folder)
    # Without a folder for what it has no memory for, as that would be in the working directory.
    limits = {"memory_limit": _MEMORY_LIMIT, "threads": 1, "temp_directory": ""}
    try:
        with duckdb.connect(config={**limits, "preserve_insertion_order": False}) as db:
            db.execute(_render_copy(folder, columns, path))
    except duckdb.Error as error:
        if os.strerror(errno.ENOSPC) in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None
        # Only its kind is told: messages of DuckDB have the values of rows.
        kind = type(error).__name__
        raise StateConflict(
            f"DuckDB cannot write {path.name} ({kind}); export with --format csv instead"
        ) from None
    shutil.rmtree(folder)


def _write_pieces(rows: Iterator[bytes], folder: Path) -> None:
    """Write the rows as files of a few megabytes, at least one."""
    for number in count():
        written = 0
        with (folder / f"{number:06}.csv").open("wb") as file:
            for row in rows:
                file.write(row)
                written += len(row)
                if written >= _PIECE_BYTES:
                    break
            else:
                return


def _render_copy(folder: Path, columns: Sequence[ExportedColumn], path: Path) -> str:
    selected = ", ".join(_select_column(one) for one in columns)
    read = ", ".join(
        f"{_quote(one.name)}: '{'VARCHAR' if one.is_list else get_parquet_type(one)}'"
        for one in columns
    )
    source = (
        f"read_csv({_quote_text(f'{glob.escape(str(folder))}/*.csv')}, header = false,"
        " auto_detect = false, hive_partitioning = false, delim = ',', quote = '\"',"
        " escape = '\"', nullstr = '', allow_quoted_nulls = false, parallel = false,"
        f" max_line_size = {_MAX_ROW_BYTES}, buffer_size = {2 * _MAX_ROW_BYTES},"
        f" columns = {{{read}}})"
    )
    options = (
        f"format parquet, compression zstd, row_group_size {_ROW_GROUP},"
        f" row_group_size_bytes {_ROW_GROUP_BYTES}"
    )
    return f"copy (select {selected} from {source}) to {_quote_text(str(path))} ({options})"


def _select_column(column: ExportedColumn) -> str:
    name = _quote(column.name)
    return f"from_json({name}, '[\"VARCHAR\"]') as {name}" if column.is_list else name


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _quote_text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
