"""Compare a page with what is stored and write what differs. Unchanged rows are never written."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Uuid

from models.base import DIRECTORY
from models.copy_text import array_literal
from models.resource import OWNER, Resource
from models.row import HASH_BYTES, HASH_VERSION, Row, shape_of
from worker.store import compare
from worker.store.beginnings import NOT_SEEN, Beginnings
from worker.store.change import Change
from worker.store.engine import driver
from worker.store.lease import Transaction
from worker.store.updates import require_all, update_each
from worker.store.writing import Arriving, bind, insert_rows, write_outcomes


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


def merge_rows(
    tx: Transaction,
    resource: Resource,
    arriving: Mapping[str, Arriving],
    *,
    hopeful: bool = False,
    beginnings: Beginnings = NOT_SEEN,
) -> list[Change]:
    """Bring the mirror's rows in line with a page; the changes, in the page's order.

    ``hopeful`` takes all objects for new, as in a first load they are. ``beginnings`` says since
    when those are live that come.
    Raises NotAllNew where one is not: the transaction is lost and the page must be compared.
    """
    if not arriving:
        return []
    if hopeful:
        insert_rows(tx, resource, arriving.items(), beginnings)
        return _created(resource, arriving.items())
    known = _hashes(tx, resource, list(arriving))
    new = [(key, item) for key, item in arriving.items() if key not in known]
    if new:
        insert_rows(tx, resource, new, beginnings)
    changes = _created(resource, new)
    doubtful, same = {}, []
    for key, item in arriving.items():
        if (old := known.get(key)) is None:
            continue
        if (old.hash, old.live) != (item.hash, True):
            doubtful[key] = item
        elif item.source is not None and bind(item.hash, item.source) != old.source:
            same.append((item.hash, item.source, tx.connection_id, key))
    _rehash(tx, resource, same)
    outdated = {key for key in doubtful if _is_outdated(known[key].hash)}
    return changes + _settle(tx, resource, doubtful, outdated, beginnings)


def _created(resource: Resource, arriving: Iterable[tuple[str, Arriving]]) -> list[Change]:
    json = shape_of(resource).json
    return [compare.created(key, item.json or json(item.row)) for key, item in arriving]


def _is_outdated(digest: bytes | None) -> bool:
    """Whether a hash was made by the recipe of an earlier release."""
    return digest is not None and not digest.startswith(HASH_VERSION)


def _settle(
    tx: Transaction,
    resource: Resource,
    arriving: Mapping[str, Arriving],
    outdated: Collection[str],
    beginnings: Beginnings,
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
    return write_outcomes(tx, resource, outcomes, beginnings)


def _rehash(tx: Transaction, resource: Resource, same: Sequence[tuple[Any, ...]]) -> None:
    """Store hashes of rows whose content stays as it is: row, source, connection and key."""
    values = [(digest, bind(digest, source), *where) for digest, source, *where in same]
    update_each(tx, resource, _statements(resource).rehash, values)


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
