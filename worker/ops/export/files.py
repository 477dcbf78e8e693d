"""Writes an export: a file for each view, and a manifest, which all appear at once."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from worker.core.errors import InvalidInput, StateConflict
from worker.core.process.disk import storage_full_from_oserror
from worker.ops.export.parquet import load_duckdb, write_parquet
from worker.store.export import (
    ExportedView,
    ReadResource,
    begin_snapshot,
    copy_view,
    list_exported_views,
    list_read_resources,
)

OnRows = Callable[[str, int], None]
"""Called with the name of a view and the rows written so far."""

LARGE_VIEWS: Final = frozenset({"effective_group_members", "changes"})
"""Many times as large as what they are derived from: exported only by name."""


class ExportFormat(StrEnum):
    """How the files are written."""

    CSV = "csv"
    PARQUET = "parquet"


@dataclass(frozen=True)
class ExportRequest:
    """Which views of which customer to write, and where."""

    connection_id: int
    folder: Path
    format: ExportFormat
    views: Sequence[str] = ()
    """All but the large ones if it is empty."""


@dataclass
class ExportedFile:
    """A file that was written."""

    view: ExportedView
    name: str
    rows: int
    bytes: int

    def describe(self) -> dict[str, Any]:
        columns = [one._asdict() for one in self.view.columns]
        kept = {"view": self.view.name, "file": self.name, "rows": self.rows, "bytes": self.bytes}
        return {**kept, "meaning": self.view.meaning, "columns": columns}


@dataclass
class Export:
    """What was written, as of which moment."""

    request: ExportRequest
    as_of: datetime
    incomplete: Sequence[ReadResource]
    """Resources of which not all was read, so that views lack rows."""
    files: list[ExportedFile] = field(default_factory=list)

    def describe(self) -> dict[str, Any]:
        """Return the manifest."""
        return {
            "connection_id": self.request.connection_id,
            "format": self.request.format.value,
            "as_of": self.as_of.isoformat(),
            "incomplete": [{"resource": one.resource, "why": one.why} for one in self.incomplete],
            "files": [one.describe() for one in self.files],
        }


def write_export(db: sa.Connection, request: ExportRequest, on_rows: OnRows) -> Export:
    """Write the views of one customer, all out of one snapshot.

    The folder appears when all of it is there. Raises InvalidInput if it exists or a view does not,
    ConfigurationError if what writes Parquet is not installed, StorageFull if the disk is full,
    StateConflict if the folder cannot be written otherwise, or nothing of the customer was read
    yet: nothing is left of it then. Only its owner can read it.
    """
    if request.format is ExportFormat.PARQUET:
        load_duckdb()
    as_of, read = begin_snapshot(db), list_read_resources(db, request.connection_id)
    if not any(one.is_complete for one in read):
        number = request.connection_id
        raise StateConflict(
            f"nothing of connection {number} was read to the end yet, so that its views have no"
            f" rows; 'tenant-mirror status {number}' says why"
        )
    export = Export(request, as_of, [one for one in read if not one.is_complete])
    known = list_exported_views(db)
    chosen = [known[name] for name in _choose_views(request.views, list(known))]
    with _open_folder(request.folder) as folder:
        for view in chosen:
            export.files.append(_write_view(db, view, request, folder, on_rows))
        manifest = json.dumps(export.describe(), indent=2, ensure_ascii=False)
        (folder / "manifest.json").write_text(manifest + "\n", encoding="utf-8")
    return export


def _choose_views(wanted: Sequence[str], known: Sequence[str]) -> list[str]:
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise InvalidInput(
            f"there is no view '{unknown[0]}' to export; --view takes one of " + ", ".join(known)
        )
    return list(dict.fromkeys(wanted)) or [name for name in known if name not in LARGE_VIEWS]


@contextmanager
def _open_folder(wanted: Path) -> Iterator[Path]:
    """Yield a folder beside the wanted one, which takes its name at the end."""
    if wanted.exists():
        raise InvalidInput(f"{wanted} exists already; name a folder that does not, with --to")
    if not wanted.parent.is_dir():
        raise InvalidInput(
            f"there is no folder {wanted.parent}; create it, or name another one with --to"
        )
    beside = wanted.with_name(f".{wanted.name}.{os.getpid()}.part")
    with _explain_failure(wanted):
        try:
            beside.mkdir(mode=0o700)
            yield beside
            beside.rename(wanted)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise


@contextmanager
def _explain_failure(wanted: Path) -> Iterator[None]:
    """Say in words why the operating system does not let a folder be written."""
    try:
        yield
    except BrokenPipeError:
        raise  # The reader of the progress has closed the pipe; the folder is not at fault.
    except OSError as error:
        if error.errno is None:
            raise
        full = storage_full_from_oserror(OSError(error.errno, ""), wanted)
        reason = f"{wanted} cannot be written: {os.strerror(error.errno).lower()}"
        raise full or StateConflict(reason) from None


def _write_view(
    db: sa.Connection, view: ExportedView, request: ExportRequest, folder: Path, on_rows: OnRows
) -> ExportedFile:
    path = folder / f"{view.name}.{request.format}"
    counter = _RowCounter(lambda rows: on_rows(view.name, rows))
    # Closed at once, also after a failure: the connection can do nothing else before.
    with closing(copy_view(db, view, request.connection_id)) as copied:
        chunks = counter.count(copied)
        if request.format is ExportFormat.CSV:
            with path.open("wb") as file:
                file.writelines(chunks)
        else:
            write_parquet(chunks, view.columns, path)
    path.chmod(0o600)
    return ExportedFile(view, path.name, counter.rows, path.stat().st_size)


class _RowCounter:
    """Counts rows: Postgres sends one row of COPY, after the header, with each message."""

    def __init__(self, on_rows: Callable[[int], None]) -> None:
        self._on_rows = on_rows
        self.rows = -1

    def count(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self.rows += 1
            if self.rows % 10_000 == 0:
                self._on_rows(self.rows)
            yield chunk
