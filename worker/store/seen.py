"""What a full walk saw, one row a page, and what follows from it once the walk is complete."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import NamedTuple

from sqlalchemy import Connection, text

from models.base import DIRECTORY
from models.copy_text import array_literal
from models.resource import OWNER, Resource
from models.row import shape_of
from worker.store import compare
from worker.store.change import Change
from worker.store.engine import driver, join_by_hash
from worker.store.lease import Transaction
from worker.store.merge import key_type, stored_rows
from worker.store.writing import write_outcomes

_NOTE = """
    insert into sync.seen (connection_id, resource, walk_id, page_no, keys, properties)
    values (%s, %s, %s, %s, %s::text::text[], %s::bigint[])
"""
_FORGET = text("""
    delete from sync.seen
     where connection_id = :id and resource = any(cast(:resources as text[]))
""")
WALK_KEYS = """
    select unnest(keys) as key from sync.seen
     where connection_id = %(id)s and resource = %(resource)s and walk_id = %(walk)s
"""
"""The keys that a walk saw, as texts."""


class Seen(NamedTuple):
    """The keys of a page and, unless all were sent, which columns each carried."""

    resource: Resource
    keys: Sequence[str]
    present: Sequence[int] = ()


def note_seen(tx: Transaction, walk_id: int, page_no: int, seen: Iterable[Seen]) -> None:
    """Remember what a page of a walk showed."""
    with driver(tx.connection).cursor() as cursor:
        cursor.executemany(
            _NOTE,
            [
                (
                    *(tx.connection_id, one.resource.name, walk_id, page_no),
                    array_literal(list(one.keys)),
                    _partial(one),
                )
                for one in seen
            ],
        )


def _partial(seen: Seen) -> list[int] | None:
    everything = shape_of(seen.resource).everything
    return list(seen.present) if any(bits != everything for bits in seen.present) else None


def forget_seen(tx: Transaction, resources: Sequence[Resource]) -> None:
    """Drop the evidence of walks that are over."""
    names = [resource.name for resource in resources]
    tx.connection.execute(_FORGET, {"id": tx.connection_id, "resources": names})


@cache
def _unsent(resource: Resource) -> str:
    kind = key_type(resource).removesuffix("[]")
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


def clear_unsent(
    tx: Transaction, resource: Resource, walk_id: int, limit: int = 500
) -> list[Change]:
    """Null the columns that no page of a complete walk carried; empty when all are done."""
    values = {
        "id": tx.connection_id,
        "resource": resource.name,
        "walk": walk_id,
        "everything": shape_of(resource).everything,
        "limit": limit,
    }
    with driver(tx.connection).cursor() as cursor:
        cursor.execute(
            "select exists (select from sync.seen where connection_id = %(id)s"
            " and resource = %(resource)s and walk_id = %(walk)s and properties is not null)",
            values,
        )
        found = cursor.fetchone()
        if not found or not found[0]:
            return []
        join_by_hash(tx.connection)
        cursor.execute(_unsent(resource), values)
        present: Mapping[str, int] = dict(cursor.fetchall())
    return _clear(tx, resource, present)


def _clear(tx: Transaction, resource: Resource, present: Mapping[str, int]) -> list[Change]:
    shape = shape_of(resource)
    nothing = (None,) * len(shape.names)
    outcomes = [
        outcome
        for key, old in stored_rows(tx, resource, list(present)).items()
        if (
            outcome := compare.updated(
                shape, key, old.row, nothing, shape.everything & ~present[key] & ~1
            )
        )
    ]
    return write_outcomes(tx, resource, outcomes)


def live_ids_after(
    connection: Connection, connection_id: int, resource: Resource, after: str, limit: int
) -> list[str]:
    """The next live objects behind an id, in order: a walk through what is stored."""
    statement = (
        f"select id from {DIRECTORY}.{resource.name} where {OWNER} = %s and id > %s::uuid"
        f" and deleted_at is null order by {OWNER}, id limit %s"
    )
    with driver(connection).cursor() as cursor:
        cursor.execute(statement, (connection_id, after, limit))
        return [row[0] for row in cursor.fetchall()]


_SEEN_COUNT = text("""
    select coalesce(sum(cardinality(keys)), 0) from sync.seen
     where connection_id = :id and resource = :resource and walk_id = :walk
""")


def seen_count(tx: Transaction, resource: Resource, walk_id: int) -> int:
    """How many objects the walk has met, repeated ones counted again."""
    values = {"id": tx.connection_id, "resource": resource.name, "walk": walk_id}
    return int(tx.connection.execute(_SEEN_COUNT, values).scalar_one())
