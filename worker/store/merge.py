"""Compare a page with what is stored and write what differs. Unchanged rows are never written.

New rows are COPYed straight into the mirror: under the lease lock nobody else can add them.
Changed rows are few, so they are updated one by one, in a pipeline.
"""

from binascii import hexlify
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, Protocol

from psycopg.errors import UniqueViolation
from sqlalchemy import ARRAY, DateTime, Uuid
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine

from models.base import DIRECTORY
from models.copy_text import array_literal
from models.resource import OWNER, Resource
from models.row import HASH_BYTES, HASH_VERSION, Row, shape_of
from worker.store import compare
from worker.store.change import Change
from worker.store.copy import as_parameters, copy_lines, mirror_columns
from worker.store.engine import driver
from worker.store.lease import Transaction
from worker.store.updates import require_all, update_each


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


class Stored(NamedTuple):
    """A row as it stands."""

    row: Row
    live: bool


class _Digests(NamedTuple):
    """What is known of a row that is stored already."""

    hash: bytes | None
    live: bool
    source: bytes | None


class _Statements(NamedTuple):
    changed: str
    hashes: str
    rows: str
    rehash: str


def key_type(resource: Resource) -> str:
    """The SQL type of a list of keys."""
    return "uuid[]" if isinstance(resource.columns[0].type, Uuid) else "text[]"


def sql_type(kind: TypeEngine[Any]) -> str:
    """How Postgres spells the type of a mirrored column."""
    names = {ARRAY: "text[]", JSONB: "jsonb", DateTime: "timestamptz", Uuid: "uuid"}
    found = [name for of, name in names.items() if isinstance(kind, of)]
    return found[0] if found else str(kind).lower()


def _probe(table: str, key: str, array: str, wanted: str) -> str:
    """One index probe a key.

    A table without statistics would otherwise be scanned whole: the planner takes the rows of a
    connection to be few, and reads them all.
    """
    return (
        f"select found.* from unnest(%s::text::{array}) as k(key) cross join lateral"
        f" (select {wanted} from {table} where {OWNER} = %s and {key} = k.key limit 1) as found"
    )


@cache
def _statements(resource: Resource) -> _Statements:
    table = f"{DIRECTORY}.{resource.name}"
    key = resource.key[0]
    array = key_type(resource)
    columns = ", ".join(f'"{name}"' for name in resource.column_names)
    return _Statements(
        f"""
        select k.key from unnest(%s::text::{array}) with ordinality as k(key, number)
          left join lateral (
               select source_hash, row_hash, deleted_at from {table}
                where {OWNER} = %s and {key} = k.key limit 1) as found on true
         where found.deleted_at is not null
            or (found.source_hash = found.row_hash ||
                substr(%s::bytea, k.number::int * {HASH_BYTES} - {HASH_BYTES - 1}, {HASH_BYTES})
               ) is not true
        """,
        _probe(table, key, array, f"{key}, row_hash, deleted_at is null as live, source_hash"),
        _probe(table, key, array, f"deleted_at is null as live, {columns}"),
        f"update {table} set row_hash = %s, source_hash = %s where {OWNER} = %s and {key} = %s",
    )


@cache
def _update(resource: Resource, names: tuple[str, ...]) -> str:
    """Sets some columns of a row, which is live from then on."""
    kinds = {str(column.name): sql_type(column.type) for column in resource.columns}
    assignments = ", ".join(f'"{name}" = %s::{kinds[name]}' for name in names)
    return (
        f"update {DIRECTORY}.{resource.name} set {assignments},"
        " row_hash = %s, source_hash = %s, changed_at = %s,"
        f" deleted_at = null, deleted_reason = null where {OWNER} = %s and {resource.key[0]} = %s"
    )


def merge_rows(
    tx: Transaction, resource: Resource, arriving: Mapping[str, Arriving], *, hopeful: bool = False
) -> list[Change]:
    """Bring the mirror's rows in line with a page; the changes, in the page's order.

    ``hopeful`` takes all objects for new, as in a first load they are.
    Raises NotAllNew where one is not: the transaction is lost and the page must be compared.
    """
    if not arriving:
        return []
    if hopeful:
        _insert(tx, resource, arriving.values())
        return _created(resource, arriving.items())
    known = _hashes(tx, resource, list(arriving))
    new = [(key, item) for key, item in arriving.items() if key not in known]
    if new:
        _insert(tx, resource, [item for _, item in new])
    changes = _created(resource, new)
    doubtful, same = {}, []
    for key, item in arriving.items():
        if (old := known.get(key)) is None:
            continue
        if (old.hash, old.live) != (item.hash, True):
            doubtful[key] = item
        elif item.source is not None and _bind(item.hash, item.source) != old.source:
            same.append((item.hash, item.source, tx.connection_id, key))
    _rehash(tx, resource, same)
    outdated = {key for key in doubtful if _is_outdated(known[key].hash)}
    return changes + _settle(tx, resource, doubtful, outdated)


def _created(resource: Resource, arriving: Iterable[tuple[str, Arriving]]) -> list[Change]:
    json = shape_of(resource).json
    return [compare.created(key, item.json or json(item.row)) for key, item in arriving]


def _is_outdated(digest: bytes | None) -> bool:
    """Whether a hash was made by the recipe of an earlier release."""
    return digest is not None and not digest.startswith(HASH_VERSION)


def _settle(
    tx: Transaction, resource: Resource, arriving: Mapping[str, Arriving], outdated: Collection[str]
) -> list[Change]:
    """Rows whose hash differs or that were deleted: column by column."""
    if not arriving:
        return []
    shape = shape_of(resource)
    stored = stored_rows(tx, resource, list(arriving))
    require_all(tx, resource, len(arriving), len(stored))
    outcomes, same = [], []
    for key, item in arriving.items():
        old = stored[key]
        if old.live:
            outcome = compare.updated(shape, key, old.row, item.row, item.present)
        else:
            outcome = compare.restored(shape, key, item.row)
        if outcome is not None:
            outcomes.append(outcome._replace(source=item.source))
        elif key in outdated or item.source is not None:
            same.append((shape.hash(old.row), item.source, tx.connection_id, key))
    _rehash(tx, resource, same)
    return write_outcomes(tx, resource, outcomes)


def _bind(row_hash: bytes, source: bytes | None) -> bytes | None:
    """The source hash as it is stored: behind the hash of the row that was made of it.

    A writer that does not know this column (an earlier release) changes ``row_hash`` alone. The
    two then differ, the source counts as unknown, and the next full walk reads the object again.
    """
    return None if source is None else row_hash + source


def _rehash(tx: Transaction, resource: Resource, same: Sequence[tuple[Any, ...]]) -> None:
    """Store hashes of rows whose content stays as it is: row, source, connection and key."""
    values = [(digest, _bind(digest, source), *where) for digest, source, *where in same]
    update_each(tx, resource, _statements(resource).rehash, values)


def write_outcomes(
    tx: Transaction, resource: Resource, outcomes: Sequence[compare.Outcome]
) -> list[Change]:
    """Store the given outcomes, each of an existing row.

    Of rows that stay live, only columns that differ in any of them: a statement of all columns
    costs several times as much to read, for Postgres and for the driver.
    """
    altered = [one for one in outcomes if one.change.changed is not None]
    revived = [one for one in outcomes if one.change.changed is None]
    differing = {name for one in altered for name in one.change.changed or ()}
    rest = resource.column_names[1:]
    _write(tx, resource, altered, tuple(name for name in rest if name in differing))
    _write(tx, resource, revived, rest)
    return [outcome.change for outcome in outcomes]


def _write(
    tx: Transaction,
    resource: Resource,
    outcomes: Sequence[compare.Outcome],
    names: tuple[str, ...],
) -> None:
    if not outcomes:
        return
    parameters = as_parameters(resource)
    places = [resource.column_names.index(name) for name in names]
    values = []
    for one in outcomes:
        row = parameters(one.row)
        kept = (one.hash, _bind(one.hash, one.source), tx.moment, tx.connection_id, one.row[0])
        values.append((*(row[place] for place in places), *kept))
    update_each(tx, resource, _update(resource, names), values)


def changed_sources(tx: Transaction, resource: Resource, sources: Mapping[str, bytes]) -> set[str]:
    """The keys whose rows are not live and made of just those bytes: key to hash of the source.

    Postgres compares, so that of a page in which nothing changed nothing is sent back.
    """
    values = (array_literal(list(sources)), tx.connection_id, b"".join(sources.values()))
    with driver(tx.connection).cursor() as cursor:
        cursor.execute(_statements(resource).changed, values)
        return {key for (key,) in cursor.fetchall()}


def _hashes(tx: Transaction, resource: Resource, keys: list[str]) -> dict[str, _Digests]:
    with driver(tx.connection).cursor() as cursor:
        cursor.execute(_statements(resource).hashes, (array_literal(keys), tx.connection_id))
        return {row[0]: _Digests(*row[1:]) for row in cursor.fetchall()}


def stored_rows(tx: Transaction, resource: Resource, keys: list[str]) -> dict[str, Stored]:
    """Whole rows by key, deleted ones included."""
    with driver(tx.connection).cursor() as cursor:
        cursor.execute(_statements(resource).rows, (array_literal(keys), tx.connection_id))
        return {row[1]: Stored(row[1:], row[0]) for row in cursor.fetchall()}


def _insert(tx: Transaction, resource: Resource, items: Iterable[Arriving]) -> None:
    shape = shape_of(resource)
    owner, moment = str(tx.connection_id).encode(), tx.moment.isoformat().encode()
    tail = b"\t%b\t%b\t\\N\t\\N\t" % (moment, moment)
    lines = (
        b"%b\t%b%b%b\t%b\n"
        % (
            *(owner, item.line or shape.line(item.row), tail),
            *(_hex(item.hash), _hex(_bind(item.hash, item.source))),
        )
        for item in items
    )
    insert_lines(tx, resource, lines)


def _hex(digest: bytes | None) -> bytes:
    """Bytes, or null, as COPY takes them."""
    return b"\\N" if digest is None else b"\\\\x" + hexlify(digest)


def insert_lines(tx: Transaction, resource: Resource, lines: Iterable[bytes]) -> None:
    """COPY new rows into the mirror. Raises NotAllNew where one is there already."""
    columns = mirror_columns(resource)
    try:
        copy_lines(tx.connection, DIRECTORY, resource.name, columns, lines)
    except UniqueViolation:
        raise NotAllNew from None
