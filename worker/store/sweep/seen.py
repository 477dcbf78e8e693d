"""Keys that a full walk saw, one row per page, and their use once the walk is complete."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import text

from models.base import DIRECTORY
from models.resource import OWNER, Resource
from models.source import ColumnValue
from worker.rows.copy_format import encode_array
from worker.rows.shape import get_shape
from worker.store.engine import get_driver_connection
from worker.store.lease import Transaction
from worker.store.mirror import compare
from worker.store.mirror.change import Change
from worker.store.mirror.merge import load_rows
from worker.store.mirror.write import update_rows
from worker.store.planner import prefer_hash_joins
from worker.store.sql import get_key_array_type

_NOTE = """
    insert into sync.seen (connection_id, resource, walk_id, page_no, keys, properties)
    values (%s, %s, %s, %s, %s::text::text[], %s::bigint[])
"""
_FORGET = """
    delete from sync.seen where connection_id = %s and resource = any(%s::text[])
"""
WALK_KEYS = """
    select unnest(keys) as key from sync.seen
     where connection_id = %(id)s and resource = %(resource)s and walk_id = %(walk)s
"""
"""Query of the keys that a walk saw, as text."""


class SeenKeys(NamedTuple):
    """The keys of a page and, unless all columns were sent, the sent columns of each as bits."""

    resource: Resource
    keys: Sequence[str]
    present: Sequence[int] = ()


def note_seen(tx: Transaction, walk_id: int, page_no: int, seen: Iterable[SeenKeys]) -> None:
    """Store the keys that a page of a walk showed."""
    with get_driver_connection(tx.db).cursor() as cursor:
        # One or two: a pipeline, which ``executemany`` opens, costs more.
        for one in seen:
            keys, present = encode_array(list(one.keys)), _encode_present(one)
            walk = (tx.connection_id, one.resource.name, walk_id, page_no)
            cursor.execute(_NOTE, (*walk, keys, present))


def _encode_present(seen: SeenKeys) -> list[int] | None:
    everything = get_shape(seen.resource).all_columns
    return list(seen.present) if any(bits != everything for bits in seen.present) else None


def delete_seen(tx: Transaction, resources: Sequence[Resource]) -> None:
    """Delete the seen keys of finished walks."""
    names = [resource.name for resource in resources]
    with get_driver_connection(tx.db).cursor() as cursor:
        cursor.execute(_FORGET, (tx.connection_id, names))


@cache
def _render_unsent(resource: Resource) -> str:
    kind = get_key_array_type(resource).removesuffix("[]")
    key = resource.key[0]
    gone = " or ".join(
        f'(k.present & {1 << index} = 0 and t."{name}" is not null)'
        for index, name in enumerate(resource.column_names)
        if index
    )
    return f"""
        with k as materialized (
            select key, bit_or(present) as present
              from (select unnest(keys)::{kind} as key,
                           unnest(coalesce(properties, array_fill(%(everything)s::bigint,
                                           array[cardinality(keys)]))) as present
                      from sync.seen
                     where connection_id = %(id)s and resource = %(resource)s
                       and walk_id = %(walk)s) as pages
             group by key having bit_or(present) <> %(everything)s)
        select k.key::text, k.present from k
          join {DIRECTORY}.{resource.name} t on t.{OWNER} = %(id)s and t.{key} = k.key
         where t.deleted_at is null and ({gone})
         limit %(limit)s
    """


def null_unsent_columns(
    tx: Transaction, resource: Resource, walk_id: int, *, untold: int = 0, limit: int = 500
) -> tuple[list[Change], int]:
    """Set columns that no page of a complete walk sent to null.

    Return the changes and the number of rows: fewer than ``limit`` when done. ``untold`` has a bit
    for each column that changes do not tell yet.
    """
    values = {
        "id": tx.connection_id,
        "resource": resource.name,
        "walk": walk_id,
        "everything": get_shape(resource).all_columns,
        "limit": limit,
    }
    with get_driver_connection(tx.db).cursor() as cursor:
        cursor.execute(
            "select exists (select from sync.seen where connection_id = %(id)s"
            " and resource = %(resource)s and walk_id = %(walk)s and properties is not null)",
            values,
        )
        found = cursor.fetchone()
        if not found or not found[0]:
            return [], 0
        prefer_hash_joins(tx.db)
        cursor.execute(_render_unsent(resource), values)
        present: Mapping[str, int] = dict(cursor.fetchall())
    return _null_columns(tx, resource, present, untold), len(present)


def _null_columns(
    tx: Transaction, resource: Resource, present: Mapping[str, int], untold: int
) -> list[Change]:
    shape = get_shape(resource)
    nothing = (None,) * len(shape.names)
    outcomes = [
        outcome
        for key, old in load_rows(tx, resource, list(present)).items()
        if (
            outcome := compare.build_updated(
                shape,
                key,
                old.row,
                nothing,
                shape.all_columns & ~present[key] & ~1,
                untold=untold,
            )
        )
    ]
    return update_rows(tx, resource, outcomes)


def list_live_ids(
    db: sa.Connection,
    connection_id: int,
    resource: Resource,
    after: str,
    limit: int,
    *,
    omits: ColumnValue | None = None,
    changed_since: datetime | None = None,
) -> list[str]:
    """Return the ids of the next live objects after an id, in order.

    Without those that have a value that ``omits`` names, or that were stored as they are before
    ``changed_since``.
    """
    values: list[object] = [connection_id, after]
    where = ""
    if omits is not None:
        where += f" and {omits.column}::text is distinct from %s"
        values.append(omits.value)
    if changed_since is not None:
        where += " and changed_at >= %s"
        values.append(changed_since)
    statement = (
        f"select id from {DIRECTORY}.{resource.name} where {OWNER} = %s and id > %s::uuid"
        f" and deleted_at is null{where} order by {OWNER}, id limit %s"
    )
    with get_driver_connection(db).cursor() as cursor:
        cursor.execute(statement, (*values, limit))
        return [row[0] for row in cursor.fetchall()]


_SEEN_COUNT = text("""
    select coalesce(sum(cardinality(keys)), 0) from sync.seen
     where connection_id = :id and resource = :resource and walk_id = :walk
""")


def count_seen(tx: Transaction, resource: Resource, walk_id: int) -> int:
    """Return how many objects the walk has seen, counting repeated ones again."""
    values = {"id": tx.connection_id, "resource": resource.name, "walk": walk_id}
    return int(tx.db.execute(_SEEN_COUNT, values).scalar_one())
