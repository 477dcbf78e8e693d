"""Writing rows of the mirror.

New rows are COPYed straight into it: under the lease lock nobody else can add them. Changed rows
are few, so they are updated one by one, in a pipeline.
"""

from binascii import hexlify
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import Any, Protocol

from psycopg.errors import UniqueViolation
from sqlalchemy import ARRAY, DateTime, Uuid
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine

from models.base import DIRECTORY
from models.resource import OWNER, Resource
from models.row import Row, shape_of
from worker.store import compare
from worker.store.beginnings import NOT_SEEN, Beginnings
from worker.store.change import Change
from worker.store.copy import as_parameters, copy_lines, mirror_columns
from worker.store.lease import Transaction
from worker.store.updates import update_each


class Arriving(Protocol):
    """A decoded object, as ``graph/decode.py`` gives it."""

    @property
    def row(self) -> Row: ...
    @property
    def present(self) -> int: ...
    @property
    def json(self) -> bytes: ...
    @property
    def hash(self) -> bytes: ...
    @property
    def source(self) -> bytes | None: ...
    @property
    def line(self) -> bytes: ...


class NotAllNew(Exception):  # noqa: N818 - a finding, not a failure
    """A page that was taken for new holds an object that is stored already."""


def sql_type(kind: TypeEngine[Any]) -> str:
    """How Postgres spells the type of a mirrored column."""
    names = {ARRAY: "text[]", JSONB: "jsonb", DateTime: "timestamptz", Uuid: "uuid"}
    found = [name for of, name in names.items() if isinstance(kind, of)]
    return found[0] if found else str(kind).lower()


@cache
def _update(resource: Resource, names: tuple[str, ...], *, revived: bool) -> str:
    """Sets some columns of a row, which is live from then on."""
    beginning = " live_since = %s," if revived else ""
    kinds = {str(column.name): sql_type(column.type) for column in resource.columns}
    assignments = ", ".join(f'"{name}" = %s::{kinds[name]}' for name in names)
    return (
        f"update {DIRECTORY}.{resource.name} set {assignments},"
        f" row_hash = %s, source_hash = %s, changed_at = %s,{beginning}"
        f" deleted_at = null, deleted_reason = null where {OWNER} = %s and {resource.key[0]} = %s"
    )


def bind(row_hash: bytes, source: bytes | None) -> bytes | None:
    """The source hash as it is stored: behind the hash of the row that was made of it.

    A writer that does not know this column (an earlier release) changes ``row_hash`` alone. The
    two then differ, the source counts as unknown, and the next full walk reads the object again.
    """
    return None if source is None else row_hash + source


def insert_rows(
    tx: Transaction,
    resource: Resource,
    items: Iterable[tuple[str, Arriving]],
    beginnings: Beginnings,
) -> None:
    """Store new rows, by key."""
    shape = shape_of(resource)
    owner, moment = str(tx.connection_id).encode(), tx.moment.isoformat().encode()
    tail = b"\t%b\t%b\t\\N\t\\N\t" % (moment, moment)
    lines = (
        b"%b\t%b%b%b\t%b\t%b\n"
        % (
            *(owner, item.line or shape.line(item.row), tail),
            *(_hex(item.hash), _hex(bind(item.hash, item.source)), _instant(beginnings.of(key))),
        )
        for key, item in items
    )
    insert_lines(tx, resource, lines)


def _hex(digest: bytes | None) -> bytes:
    """Bytes, or null, as COPY takes them."""
    return b"\\N" if digest is None else b"\\\\x" + hexlify(digest)


def _instant(moment: datetime | None) -> bytes:
    return b"\\N" if moment is None else moment.isoformat().encode()


def insert_lines(tx: Transaction, resource: Resource, lines: Iterable[bytes]) -> None:
    """COPY new rows into the mirror. Raises NotAllNew where one is there already."""
    columns = mirror_columns(resource)
    try:
        copy_lines(tx.connection, DIRECTORY, resource.name, columns, lines)
    except UniqueViolation:
        raise NotAllNew from None


def write_outcomes(
    tx: Transaction,
    resource: Resource,
    outcomes: Sequence[compare.Outcome],
    beginnings: Beginnings = NOT_SEEN,
) -> list[Change]:
    """Store the given outcomes, each of an existing row; ``beginnings`` are of those restored.

    Of rows that stay live, only columns that differ in any of them: a statement of all columns
    costs several times as much to read, for Postgres and for the driver.
    """
    altered = [one for one in outcomes if one.change.changed is not None]
    revived = [one for one in outcomes if one.change.changed is None]
    differing = {name for one in altered for name in one.change.changed or ()}
    rest = resource.column_names[1:]
    changing = tuple(name for name in rest if name in differing)
    _write(tx, resource, altered, changing)
    _write(tx, resource, revived, rest, beginnings)
    return [outcome.change for outcome in outcomes]


def _write(
    tx: Transaction,
    resource: Resource,
    outcomes: Sequence[compare.Outcome],
    names: tuple[str, ...],
    beginnings: Beginnings | None = None,
) -> None:
    if not outcomes:
        return
    parameters = as_parameters(resource)
    places = [resource.column_names.index(name) for name in names]
    values = []
    for one in outcomes:
        row = parameters(one.row)
        since = () if beginnings is None else (beginnings.of(one.change.key),)
        kept = (one.hash, bind(one.hash, one.source), tx.moment, *since)
        values.append((*(row[place] for place in places), *kept, tx.connection_id, one.row[0]))
    statement = _update(resource, names, revived=beginnings is not None)
    update_each(tx, resource, statement, values)
