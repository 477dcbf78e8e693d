"""Delete an object's row, the rows that point at it, and its bookkeeping rows.

Leaves nothing that a sync, a sweep or an approval could continue from.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy import text

from models.base import DIRECTORY
from models.change_event import ChangeKind
from models.resource import OWNER, Resource
from models.resources import EDGE_ENDS, RESOURCES
from models.resources.group_members import GROUP_MEMBERS
from models.resources.role_assignments import ROLE_ASSIGNMENTS
from worker.events.event import SnapshotProgress
from worker.store.engine import get_driver_connection
from worker.store.lease import Transaction
from worker.store.mirror.cascade import EDGE_BATCH
from worker.store.mirror.change import Change
from worker.store.mirror.edges import render_edge_key
from worker.store.mirror.merge import load_rows

_EDGES = tuple(
    f"""
    delete from directory.group_members where connection_id = %s and {side} = %s::uuid
 returning group_id, member_id, deleted_at is null
"""
    for side in ("group_id", "member_id")
)
_ZERO = "00000000-0000-0000-0000-000000000000"
_SOME_MEMBERS = """
    select group_id, member_id from directory.group_members
     where connection_id = %(owner)s and group_id = %(id)s and member_id >= %(place)s
     order by member_id limit %(limit)s
"""
_SOME_GROUPS = """
    select group_id, member_id from directory.group_members
     where connection_id = %(owner)s and member_id = %(id)s limit %(limit)s
"""
_DELETE_EDGE = """
    delete from directory.group_members
     where connection_id = %s and group_id = %s and member_id = %s
 returning group_id, member_id, deleted_at is null
"""
_ASSIGNMENTS = """
    delete from directory.role_assignments where connection_id = %s and principal_id = %s::uuid
 returning id, deleted_at is null
"""
_MENTIONS_KEYS = """
    (key = any(:keys)
     or resource = 'group_members'
        and (split_part(key, '/', 1) = any(:keys) or split_part(key, '/', 2) = any(:keys)))
"""
_REMOVALS = text(f"delete from sync.removals where connection_id = :id and {_MENTIONS_KEYS}")
_CANDIDATES = text(f"delete from sync.candidates where connection_id = :id and {_MENTIONS_KEYS}")
_QUARANTINE = text(f"delete from sync.quarantine where connection_id = :id and {_MENTIONS_KEYS}")
_UNRESOLVED = text("delete from sync.unresolved where connection_id = :id and key = any(:keys)")
_SEEN_PAGES = text("""
    select resource, walk_id, page_no from sync.seen
     where connection_id = :id
       and exists (select from unnest(keys) as k(key)
                    where string_to_array(k.key, '/') && cast(:keys as text[]))
""")
_SEEN = text("""
    select keys, properties from sync.seen
     where connection_id = :id and resource = :resource and walk_id = :walk and page_no = :page
""")
_UPDATE_SEEN = text("""
    update sync.seen set keys = cast(:keys as text[]), properties = cast(:properties as bigint[])
     where connection_id = :id and resource = :resource and walk_id = :walk and page_no = :page
""")
_SNAPSHOTS = text("""
    select sink_id, snapshot from events.positions
     where connection_id = :id and snapshot is not null for update
""")
_SET_SNAPSHOT = text("""
    update events.positions set snapshot = cast(:snapshot as jsonb)
     where connection_id = :id and sink_id = :sink
""")
_BOOKKEEPING_RESOURCE = text("""
    select resource from sync.quarantine where connection_id = :id and key = :key
     union all
    select resource from sync.removals where connection_id = :id and key = :key
     union all
    select resource from sync.unresolved where connection_id = :id and key = :key
     limit 1
""")


@dataclass
class ErasedRows:
    """The deleted rows, for the events and the operator."""

    row: dict[str, Any] | None = None
    """The object's columns."""
    edges: list[tuple[str, bool]] = field(default_factory=list)
    """Memberships, each with whether it was live."""
    assignments: list[tuple[str, bool]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    """Deleted rows, by table."""

    @property
    def has_rows(self) -> bool:
        return self.row is not None or bool(self.edges or self.assignments)

    def build_deletions(self) -> list[tuple[Resource, list[Change]]]:
        """Return the deletions of live rows that pointed at the object, without their data."""
        return [
            (of, [Change(ChangeKind.DELETED, key) for key, live in keys if live])
            for of, keys in (
                (GROUP_MEMBERS, self.edges),
                (ROLE_ASSIGNMENTS, self.assignments),
            )
        ]


@dataclass
class MembershipErasure:
    """The memberships of an object that has more of them than fit in one transaction."""

    resource: Resource
    key: str
    cursor: str = _ZERO
    """Members of a group are read by key, from where the last batch ended."""

    def erase_batch(self, tx: Transaction) -> ErasedRows:
        """Delete ``EDGE_BATCH`` memberships physically; none if fewer are left."""
        taken = ErasedRows()
        if self.resource.name not in EDGE_ENDS:
            return taken
        values = {"owner": tx.connection_id, "id": self.key, "place": self.cursor}
        with get_driver_connection(tx.db).cursor() as cursor:
            cursor.execute(_SOME_MEMBERS, {**values, "limit": EDGE_BATCH})
            pairs = cursor.fetchall()
            place = pairs[-1][1] if pairs else self.cursor
            cursor.execute(_SOME_GROUPS, {**values, "limit": EDGE_BATCH - len(pairs)})
            pairs += cursor.fetchall()
            if len(pairs) < EDGE_BATCH:
                return taken
            cursor.executemany(
                _DELETE_EDGE, [(tx.connection_id, *pair) for pair in pairs], returning=True
            )
            more: bool | None = True
            while more:
                taken.edges += [(render_edge_key((g, m)), live) for g, m, live in cursor.fetchall()]
                more = cursor.nextset()
        self.cursor = place
        taken.counts = {f"{DIRECTORY}.group_members": len(taken.edges)}
        return taken


def erase_rows(tx: Transaction, resource: Resource, key: str) -> ErasedRows:
    """Delete an object's rows physically, with its memberships and role assignments.

    ``MembershipErasure`` has left at most as many memberships as fit in one transaction.
    """
    taken = ErasedRows()
    stored = load_rows(tx, resource, [key]).get(key)
    with get_driver_connection(tx.db).cursor() as cursor:
        if stored is not None:
            taken.row = dict(zip(resource.column_names, stored.row, strict=True))
            cursor.execute(
                f"delete from {DIRECTORY}.{resource.name}"
                f" where {OWNER} = %s and {resource.key[0]} = %s",
                (tx.connection_id, key),
            )
            taken.counts[f"{DIRECTORY}.{resource.name}"] = cursor.rowcount
        if resource.name in EDGE_ENDS:
            for statement in _EDGES:
                cursor.execute(statement, (tx.connection_id, key))
                taken.edges += [(render_edge_key((g, m)), live) for g, m, live in cursor.fetchall()]
            cursor.execute(_ASSIGNMENTS, (tx.connection_id, key))
            taken.assignments = cursor.fetchall()
    found = {
        f"{DIRECTORY}.group_members": len(taken.edges),
        f"{DIRECTORY}.role_assignments": len(taken.assignments),
    }
    taken.counts |= {table: number for table, number in found.items() if number}
    return taken


def erase_bookkeeping(tx: Transaction, keys: Collection[str]) -> dict[str, int]:
    """Delete some ids from the bookkeeping tables; return the changed rows of each table."""
    values = {"id": tx.connection_id, "keys": list(keys)}
    counts = {
        "sync.removals": tx.db.execute(_REMOVALS, values).rowcount,
        "sync.candidates": tx.db.execute(_CANDIDATES, values).rowcount,
        "sync.quarantine": tx.db.execute(_QUARANTINE, values).rowcount,
        "sync.unresolved": tx.db.execute(_UNRESOLVED, values).rowcount,
        "sync.seen": _erase_seen_keys(tx, keys),
        "events.positions": _move_snapshots_back(tx, keys),
    }
    return {table: number for table, number in counts.items() if number}


def _erase_seen_keys(tx: Transaction, gone: Collection[str]) -> int:
    """Remove ids from the evidence of a walk under way, as a sweep only checks stored rows."""
    values = {"id": tx.connection_id, "keys": list(gone)}
    pages = tx.db.execute(_SEEN_PAGES, values).all()
    for resource, walk_id, page_no in pages:
        where = {"id": tx.connection_id, "resource": resource, "walk": walk_id, "page": page_no}
        page = tx.db.execute(_SEEN, where).one()
        keys, properties = remove_keys(page.keys, page.properties, gone)
        tx.db.execute(_UPDATE_SEEN, {**where, "keys": keys, "properties": properties})
    return len(pages)


def remove_keys(
    keys: Sequence[str], properties: Sequence[int] | None, gone: Collection[str]
) -> tuple[list[str], list[int] | None]:
    """Return a page of evidence without some ids, on either side of a pair."""
    kept = [n for n, key in enumerate(keys) if not any(part in gone for part in key.split("/"))]
    bits = None if properties is None else [properties[n] for n in kept]
    return [keys[n] for n in kept], bits


def _move_snapshots_back(tx: Transaction, gone: Collection[str]) -> int:
    """Move snapshots that have reached a deleted row back to the row before it."""
    changed = 0
    for sink_id, stored in tx.db.execute(_SNAPSHOTS, {"id": tx.connection_id}).all():
        reached = SnapshotProgress.from_json(stored)
        if not any(part in gone for part in reached.after):
            continue
        before = _find_previous_key(tx.db, tx.connection_id, reached)
        snapshot = reached._replace(after=before).as_json
        values = {"id": tx.connection_id, "sink": sink_id, "snapshot": snapshot}
        tx.db.execute(_SET_SNAPSHOT, values)
        changed += 1
    return changed


def _find_previous_key(
    db: sa.Connection, connection_id: int, reached: SnapshotProgress
) -> tuple[str, ...]:
    """Return the key of the last row before the one that a snapshot has reached."""
    resource = RESOURCES[reached.resource]
    key = ", ".join(resource.key)
    holes = ", ".join(f"%s::{column.type.sql}" for column in resource.key_columns)
    statement = (
        f"select {key} from {DIRECTORY}.{resource.name}"
        f" where {OWNER} = %s and ({key}) < ({holes})"
        f" order by {', '.join(f'{name} desc' for name in resource.key)} limit 1"
    )
    with get_driver_connection(db).cursor() as cursor:
        cursor.execute(statement, (connection_id, *reached.after))
        found = cursor.fetchone()
    return tuple(found) if found else ()


def find_bookkeeping_resource(db: sa.Connection, connection_id: int, key: str) -> str | None:
    """Return the resource of an object that only the bookkeeping tables mention."""
    values = {"id": connection_id, "key": key}
    found: str | None = db.execute(_BOOKKEEPING_RESOURCE, values).scalar()
    return found
