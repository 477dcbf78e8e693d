"""Inserts and updates of mirror rows; each updated row must still exist."""

from binascii import hexlify
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from enum import Enum
from functools import cache
from typing import Any

from psycopg.errors import UniqueViolation

from models.base import DIRECTORY
from models.property import BOOLEAN, INTEGER
from models.resource import BOOKKEEPING, OWNER, Resource
from worker.core.errors import RetryLater
from worker.rows.copy_format import build_encoders
from worker.rows.incoming import EncodedRows, IncomingRow
from worker.rows.shape import Row, get_shape
from worker.store.copy import copy_lines
from worker.store.engine import get_driver_connection
from worker.store.lease import Transaction
from worker.store.mirror import compare
from worker.store.mirror.change import Change
from worker.store.mirror.live_since import NOT_OBSERVED, LiveSince


def list_mirror_columns(resource: Resource) -> tuple[str, ...]:
    """Return the columns of a mirror table in the order in which they are written."""
    return (OWNER, *resource.column_names, *BOOKKEEPING)


@cache
def build_parameter_converter(resource: Resource) -> Callable[[Row], Row]:
    """Return a function that encodes lists, times and nested values as text: fastest to send.

    Booleans and integers are sent as they are.
    """
    texts = [
        (index, text)
        for index, text in build_encoders(resource.columns)
        if resource.columns[index].type not in (BOOLEAN, INTEGER)
    ]
    if not texts:
        return _keep

    def convert(row: Row) -> Row:
        values = list(row)
        for index, text in texts:
            value = values[index]
            if value is not None:
                values[index] = text(value)
        return tuple(values)

    return convert


def _keep(row: Row) -> Row:
    return row


RETRY_SECONDS = 5


def update_each(
    tx: Transaction, resource: Resource, statement: str, values: Sequence[tuple[Any, ...]]
) -> None:
    """Run an update once for each tuple of values; each must affect exactly one row.

    Raises RetryLater if a row is missing: an event would describe a row that does not exist. The
    transaction is rolled back, and the page is compared again with what is stored then.
    """
    if not values:
        return
    with get_driver_connection(tx.db).cursor() as cursor:
        cursor.executemany(statement, values)
        affected = cursor.rowcount
    require_row_count(tx, resource, len(values), affected)


def require_row_count(tx: Transaction, resource: Resource, expected: int, row_count: int) -> None:
    """Raise RetryLater if the number of stored rows found is not the ``expected`` one."""
    if row_count != expected:
        raise RetryLater(
            f"{expected} stored rows were expected, but {row_count} were found;"
            " nothing was written, and the work is repeated",
            connection=str(tx.connection_id),
            resource=resource.name,
            after=RETRY_SECONDS,
        )


class RowExists(Exception):
    """A page that was assumed to be new contains an object that is stored already."""


class _Writing(Enum):
    """What an update does to the bookkeeping of a row, besides its hashes."""

    UNTOLD = ""
    """Nothing: no event tells of it."""
    CHANGED = ", changed_at = %s, deleted_at = null, deleted_reason = null"
    RESTORED = f", live_since = %s{CHANGED}"


@cache
def _render_update(resource: Resource, names: tuple[str, ...], writing: _Writing) -> str:
    """Return an update that sets some columns of a row."""
    kinds = {column.name: column.type.sql for column in resource.columns}
    assignments = "".join(f'"{name}" = %s::{kinds[name]}, ' for name in names)
    return (
        f"update {DIRECTORY}.{resource.name} set {assignments}"
        f"row_hash = %s, source_hash = %s{writing.value}"
        f" where {OWNER} = %s and {resource.key[0]} = %s"
    )


def bind_source_hash(row_hash: bytes, source: bytes | None) -> bytes | None:
    """Return the source hash as it is stored: the row's hash followed by the source's.

    A writer of an earlier release, without this column, changes only ``row_hash``. The two then
    differ, the source counts as unknown, and the next full walk decodes the object again.
    """
    return None if source is None else row_hash + source


def insert_rows(
    tx: Transaction,
    resource: Resource,
    items: Iterable[tuple[str, IncomingRow]],
    encoded: EncodedRows,
    live_since: LiveSince,
) -> None:
    """Insert new rows with COPY; ``items`` are pairs of key and row."""
    shape, lines = get_shape(resource), encoded.lines
    owner, moment = str(tx.connection_id).encode(), tx.moment.isoformat().encode()
    tail = b"\t%b\t%b\t\\N\t\\N\t" % (moment, moment)
    written = (
        b"%b\t%b%b%b\t%b\t%b\n"
        % (
            *(owner, lines.get(key) or shape.encode_line(item.row), tail),
            *(
                _encode_bytea(item.hash),
                _encode_bytea(bind_source_hash(item.hash, item.source_hash)),
                _encode_timestamp(live_since.get(key)),
            ),
        )
        for key, item in items
    )
    copy_new_lines(tx, resource, written)


def _encode_bytea(digest: bytes | None) -> bytes:
    """Return bytes, or null, in COPY format."""
    return b"\\N" if digest is None else b"\\\\x" + hexlify(digest)


def _encode_timestamp(moment: datetime | None) -> bytes:
    return b"\\N" if moment is None else moment.isoformat().encode()


def copy_new_lines(tx: Transaction, resource: Resource, lines: Iterable[bytes]) -> None:
    """COPY new rows into the mirror. Raises RowExists if one is stored already."""
    columns = list_mirror_columns(resource)
    try:
        copy_lines(tx.db, DIRECTORY, resource.name, columns, lines)
    except UniqueViolation:
        raise RowExists from None


def update_rows(
    tx: Transaction,
    resource: Resource,
    writes: Sequence[compare.RowWrite],
    live_since: LiveSince = NOT_OBSERVED,
) -> list[Change]:
    """Update existing rows, and return their changes; ``live_since`` applies to restored ones.

    For rows that stay live, the statement has only the columns that differ in any of them: one with
    all columns costs Postgres and the driver several times as much to parse. A row of which no
    event tells keeps the time of its last change: it is read to undo events.
    """
    altered = [one for one in writes if one.names is not None]
    for writing, some in (
        (_Writing.UNTOLD, [one for one in altered if one.change is None]),
        (_Writing.CHANGED, [one for one in altered if one.change is not None]),
    ):
        differing = {name for one in some for name in one.names or ()}
        names = tuple(name for name in resource.column_names[1:] if name in differing)
        _update_columns(tx, resource, some, names, writing=writing)
    revived = [one for one in writes if one.names is None]
    every, writing = resource.column_names[1:], _Writing.RESTORED
    _update_columns(tx, resource, revived, every, writing=writing, live_since=live_since)
    return [one.change for one in writes if one.change is not None]


def _update_columns(
    tx: Transaction,
    resource: Resource,
    outcomes: Sequence[compare.RowWrite],
    names: tuple[str, ...],
    *,
    writing: _Writing,
    live_since: LiveSince = NOT_OBSERVED,
) -> None:
    if not outcomes:
        return
    parameters = build_parameter_converter(resource)
    places = [resource.column_names.index(name) for name in names]
    values = []
    for one in outcomes:
        row, key = parameters(one.row), one.row[0]
        since = (live_since.get(key),) if writing is _Writing.RESTORED else ()
        at = () if writing is _Writing.UNTOLD else (tx.moment,)
        kept = (one.row_hash, bind_source_hash(one.row_hash, one.source_hash), *since, *at)
        values.append((*(row[place] for place in places), *kept, tx.connection_id, key))
    update_each(tx, resource, _render_update(resource, names, writing), values)
