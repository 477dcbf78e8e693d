"""Merging of a page: compare it with the stored rows and write only those that differ."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from models.base import DIRECTORY
from models.resource import OWNER, Resource
from worker.rows.copy_format import encode_array
from worker.rows.hash import HASH_BYTES
from worker.rows.incoming import NOT_ENCODED, EncodedRows, IncomingRow
from worker.rows.shape import Row, clear_values, get_shape
from worker.store.engine import get_driver_connection
from worker.store.lease import Transaction
from worker.store.mirror import compare
from worker.store.mirror.change import Change
from worker.store.mirror.live_since import NOT_OBSERVED, LiveSince
from worker.store.mirror.write import (
    bind_source_hash,
    insert_rows,
    require_row_count,
    update_each,
    update_rows,
)
from worker.store.sql import get_key_array_type


class StoredRow(NamedTuple):
    """A stored row, and whether it is live."""

    row: Row
    is_live: bool


class _StoredHashes(NamedTuple):
    """The hashes of a stored row, and whether it is live."""

    hash: bytes | None
    is_live: bool
    source: bytes | None


class _Statements(NamedTuple):
    changed: str
    hashes: str
    rows: str
    rehash: str


def _render_probe(table: str, key: str, array: str, wanted: str) -> str:
    """Return a query with one index probe per key.

    Without statistics the planner would otherwise scan the whole table: it assumes that a
    connection has few rows, and reads them all.
    """
    return (
        f"select found.* from unnest(%s::text::{array}) as k(key) cross join lateral"
        f" (select {wanted} from {table} where {OWNER} = %s and {key} = k.key limit 1) as found"
    )


@cache
def _build_statements(resource: Resource) -> _Statements:
    table = f"{DIRECTORY}.{resource.name}"
    key = resource.key[0]
    array = get_key_array_type(resource)
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
        _render_probe(
            table, key, array, f"{key}, row_hash, deleted_at is null as live, source_hash"
        ),
        _render_probe(table, key, array, f"deleted_at is null as live, {columns}"),
        f"update {table} set row_hash = %s, source_hash = %s where {OWNER} = %s and {key} = %s",
    )


def merge_rows(
    tx: Transaction,
    resource: Resource,
    arriving: Mapping[str, IncomingRow],
    *,
    encoded: EncodedRows = NOT_ENCODED,
    assume_new: bool = False,
    live_since: LiveSince = NOT_OBSERVED,
    untold: int = 0,
) -> list[Change]:
    """Store the differences between a page and the mirror, and return the changes.

    ``encoded`` has the rows that are encoded already. ``assume_new`` inserts all objects
    without comparing, for a first load. ``live_since`` gives the time since when new ones are live.
    ``untold`` has a bit for each column that is stored, but that changes do not tell yet.
    Raises RowExists if an assumed new one is stored already: the transaction is lost and the page
    must be compared.
    """
    if not arriving:
        return []
    if assume_new:
        insert_rows(tx, resource, arriving.items(), encoded, live_since)
        return _build_created(resource, arriving.items(), encoded, untold)
    stored = _load_hashes(tx, resource, list(arriving))
    new = [(key, item) for key, item in arriving.items() if key not in stored]
    if new:
        insert_rows(tx, resource, new, encoded, live_since)
    changes = _build_created(resource, new, encoded, untold)
    doubtful, same = {}, []
    for key, item in arriving.items():
        if (old := stored.get(key)) is None:
            continue
        if (old.hash, old.is_live) != (item.hash, True):
            doubtful[key] = item
        elif (
            item.source_hash is not None
            and bind_source_hash(item.hash, item.source_hash) != old.source
        ):
            same.append((item.hash, item.source_hash, tx.connection_id, key))
    _save_hashes(tx, resource, same)
    hashes = {key: stored[key].hash for key in doubtful}
    return changes + _compare_columns(tx, resource, doubtful, hashes, live_since, untold=untold)


def _build_created(
    resource: Resource,
    arriving: Iterable[tuple[str, IncomingRow]],
    encoded: EncodedRows,
    untold: int,
) -> list[Change]:
    json, jsons = get_shape(resource).encode_json, encoded.jsons
    if untold:
        rows = ((key, clear_values(item.row, untold)) for key, item in arriving)
        return [compare.build_created(key, json(row)) for key, row in rows]
    return [compare.build_created(key, jsons.get(key) or json(item.row)) for key, item in arriving]


def _compare_columns(
    tx: Transaction,
    resource: Resource,
    arriving: Mapping[str, IncomingRow],
    hashes: Mapping[str, bytes | None],
    live_since: LiveSince,
    *,
    untold: int,
) -> list[Change]:
    """Compare rows whose hash differs or that were deleted column by column, and write them.

    ``hashes`` are the stored ones. One that is not the row's comes from another release, by its
    version or by the columns that it knew: it is renewed, as every read would doubt the row again.
    """
    if not arriving:
        return []
    shape = get_shape(resource)
    stored = load_rows(tx, resource, list(arriving))
    require_row_count(tx, resource, len(arriving), len(stored))
    outcomes, same = [], []
    for key, item in arriving.items():
        old = stored[key]
        if old.is_live:
            outcome = compare.build_updated(
                shape, key, old.row, item.row, item.present, untold=untold
            )
        else:
            outcome = compare.build_restored(shape, key, item.row, untold=untold)
        if outcome is not None:
            outcomes.append(outcome._replace(source_hash=item.source_hash))
        else:
            digest = shape.hash_row(old.row)
            if digest != hashes[key] or item.source_hash is not None:
                same.append((digest, item.source_hash, tx.connection_id, key))
    _save_hashes(tx, resource, same)
    return update_rows(tx, resource, outcomes, live_since)


def _save_hashes(tx: Transaction, resource: Resource, same: Sequence[tuple[Any, ...]]) -> None:
    """Store hashes of rows with unchanged content: row, source, connection and key."""
    values = [(digest, bind_source_hash(digest, source), *where) for digest, source, *where in same]
    update_each(tx, resource, _build_statements(resource).rehash, values)


def find_changed_keys(
    tx: Transaction, resource: Resource, sources: Mapping[str, bytes]
) -> set[str]:
    """Return the keys (with source hash) whose rows are not live or come from other bytes.

    Postgres compares, so that it sends nothing back for a page without changes.
    """
    values = (encode_array(list(sources)), tx.connection_id, b"".join(sources.values()))
    with get_driver_connection(tx.db).cursor() as cursor:
        cursor.execute(_build_statements(resource).changed, values)
        return {key for (key,) in cursor.fetchall()}


def _load_hashes(tx: Transaction, resource: Resource, keys: list[str]) -> dict[str, _StoredHashes]:
    with get_driver_connection(tx.db).cursor() as cursor:
        cursor.execute(_build_statements(resource).hashes, (encode_array(keys), tx.connection_id))
        return {row[0]: _StoredHashes(*row[1:]) for row in cursor.fetchall()}


def select_live_keys(tx: Transaction, resource: Resource, keys: list[str]) -> set[str]:
    """Return those of the keys that have a live row."""
    return {key for key, old in _load_hashes(tx, resource, keys).items() if old.is_live}


def load_rows(tx: Transaction, resource: Resource, keys: list[str]) -> dict[str, StoredRow]:
    """Return whole rows by key, deleted ones included."""
    with get_driver_connection(tx.db).cursor() as cursor:
        cursor.execute(_build_statements(resource).rows, (encode_array(keys), tx.connection_id))
        return {row[1]: StoredRow(row[1:], row[0]) for row in cursor.fetchall()}
