"""Removals that a delta round announced, stored until the round is complete."""

from collections.abc import Mapping

from sqlalchemy import text

from models.base import DIRECTORY
from models.resource import OWNER, Resource
from worker.store.engine import get_driver_connection
from worker.store.lease import Transaction
from worker.store.planner import prefer_hash_joins
from worker.store.sql import get_key_array_type

DELETION_BATCH = 500
"""Deletions in one transaction: large sweeps run in fenced batches."""


_NOTE = text("""
    insert into sync.removals (connection_id, resource, key, reason)
    select :id, :resource, unnest(cast(:keys as text[])), unnest(cast(:reasons as text[]))
    on conflict (connection_id, resource, key) do update set reason = excluded.reason
""")
_WITHDRAW = text("""
    delete from sync.removals
     where connection_id = :id and resource = :resource and key = any(cast(:keys as text[]))
""")


_PENDING = text("""
    select key, reason from sync.removals
     where connection_id = :id and resource = :resource and not held and key > :after
     order by key limit :limit
""")
_COUNTS = text("""
    select resource, held, count(*) as number from sync.removals
     where connection_id = :id group by resource, held
""")
_HOLD = text("""
    update sync.removals set held = true
     where connection_id = :id and resource = :resource and not held
""")
_DROP = text("""
    delete from sync.removals
     where connection_id = :id and resource = :resource and (held or not :held)
""")


def note_removals(tx: Transaction, resource: Resource, reasons: Mapping[str, str]) -> None:
    """Store removals until their round is complete and judged."""
    if reasons:
        tx.db.execute(
            _NOTE,
            {
                "id": tx.connection_id,
                "resource": resource.name,
                "keys": list(reasons),
                "reasons": [str(reason) for reason in reasons.values()],
            },
        )


def withdraw_removals(tx: Transaction, resource: Resource, keys: list[str]) -> int:
    """Delete the removals of objects that appear again, and return how many."""
    if not keys:
        return 0
    values = {"id": tx.connection_id, "resource": resource.name, "keys": keys}
    return tx.db.execute(_WITHDRAW, values).rowcount


def count_removals(tx: Transaction) -> dict[tuple[str, bool], int]:
    """Return how many removals wait, by resource and whether they are held."""
    rows = tx.db.execute(_COUNTS, {"id": tx.connection_id})
    return {(row.resource, row.held): row.number for row in rows}


def count_live_removals(tx: Transaction, resource: Resource) -> int:
    """Return how many removals, not held yet, would delete a live row: the guard judges these."""
    if resource.is_edge:
        match = " and ".join(
            f"t.{column} = split_part(r.key, '/', {place})::uuid"
            for place, column in enumerate(resource.key, start=1)
        )
    else:
        match = f"t.{resource.key[0]} = r.key::{get_key_array_type(resource).removesuffix('[]')}"
    statement = (
        f"select count(*) from sync.removals r join {DIRECTORY}.{resource.name} t"
        f" on t.{OWNER} = r.connection_id and {match} and t.deleted_at is null"
        " where r.connection_id = %s and r.resource = %s and not r.held"
    )
    prefer_hash_joins(tx.db)
    with get_driver_connection(tx.db).cursor() as cursor:
        row = cursor.execute(statement, (tx.connection_id, resource.name)).fetchone()
    return int(row[0]) if row else 0


def list_removals(tx: Transaction, resource: Resource, *, after: str = "") -> dict[str, str]:
    """Return the next ``DELETION_BATCH`` removals that are not held, after a key: key to reason."""
    values = {
        "id": tx.connection_id,
        "resource": resource.name,
        "limit": DELETION_BATCH,
        "after": after,
    }
    return {row.key: row.reason for row in tx.db.execute(_PENDING, values)}


def hold_removals(tx: Transaction, resource: Resource) -> None:
    tx.db.execute(_HOLD, {"id": tx.connection_id, "resource": resource.name})


def drop_removals(tx: Transaction, resource: Resource, *, held: bool = False) -> None:
    """Delete the waiting removals of a resource: all, or only those that are ``held``."""
    values = {"id": tx.connection_id, "resource": resource.name, "held": held}
    tx.db.execute(_DROP, values)
