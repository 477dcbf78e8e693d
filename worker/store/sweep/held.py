"""Held deletions as an operator sees and approves them: counts, digests, names, marks."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import text

from models.base import DIRECTORY
from models.resource import OWNER, Resource
from worker.store.engine import get_driver_connection
from worker.store.lease import Transaction
from worker.store.sql import get_key_array_type
from worker.store.sweep.removals import DELETION_BATCH

# Sums of hashes do not depend on the order, so nothing is sorted: 100,000 keys take 0.1 to 0.3 s.
_SUMMARY = text("""
    select resource, count(*) as number, min(noted_at) as since,
           md5(sum(cast(hashtextextended(key, 0) as numeric)) || ':'
               || sum(cast(hashtextextended(key, 1) as numeric))) as digest
      from sync.removals where connection_id = :id and held
     group by resource order by resource
""")
_MARK = text("""
    update sync.removals set approved_at = :moment
     where connection_id = :id and held and approved_at is null
""")
_APPROVED = text("""
    select key, reason from sync.removals
     where connection_id = :id and resource = :resource and approved_at is not null and key > :after
     order by key limit :limit
""")


@dataclass(frozen=True)
class HeldSet:
    """The held deletions of one resource of a connection."""

    resource: str
    count: int
    digest: str
    """Of their keys, in any order: another set has another digest."""
    since: datetime | None = None
    """When the first of them was noted."""

    def to_json(self) -> dict[str, object]:
        """Return it for programs; they repeat ``count`` and ``digest`` to approve it."""
        return {"resource": self.resource, "count": self.count, "digest": self.digest}


def summarize_held(db: sa.Connection, connection_id: int) -> list[HeldSet]:
    """Return what is held of a connection, by resource."""
    rows = db.execute(_SUMMARY, {"id": connection_id})
    return [HeldSet(row.resource, row.number, row.digest, row.since) for row in rows]


def mark_approved(tx: Transaction) -> None:
    """Mark what is held now as approved; what is held later is not."""
    tx.db.execute(_MARK, {"id": tx.connection_id, "moment": tx.moment})


def list_approved(tx: Transaction, resource: Resource, *, after: str = "") -> dict[str, str]:
    """Return the next ``DELETION_BATCH`` approved deletions after a key: key to reason."""
    values = {
        "id": tx.connection_id,
        "resource": resource.name,
        "after": after,
        "limit": DELETION_BATCH,
    }
    return {row.key: row.reason for row in tx.db.execute(_APPROVED, values)}


@dataclass(frozen=True)
class HeldObject:
    """One held deletion."""

    resource: str
    key: str
    name: str | None
    """The object's name in the mirror; None: it has none, or it is a pair of ids."""
    reason: str
    noted_at: datetime


def list_held_objects(
    db: sa.Connection, connection_id: int, resource: Resource, *, after: str = "", limit: int = 1000
) -> Sequence[HeldObject]:
    """Return held deletions of a resource after a key, in key order, with names of objects."""
    with get_driver_connection(db).cursor() as cursor:
        cursor.execute(
            _render_list(resource).encode(), (connection_id, resource.name, after, limit)
        )
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return [HeldObject(resource.name, *row) for row in rows]


def _render_list(resource: Resource) -> str:
    labels = ", ".join(f"nullif(t.{label}, '')" for label in resource.labels)
    name = f"coalesce({labels})" if labels and not resource.is_edge else "null"
    join = ""
    if name != "null":
        kind = get_key_array_type(resource).removesuffix("[]")
        join = (
            f"left join {DIRECTORY}.{resource.name} t on t.{OWNER} = r.connection_id"
            f" and t.{resource.key[0]} = r.key::{kind}"
        )
    return f"""
        select r.key, {name}, r.reason, r.noted_at from sync.removals r {join}
         where r.connection_id = %s and r.resource = %s and r.held and r.key > %s
         order by r.key limit %s
    """
