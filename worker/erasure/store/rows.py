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
from models.resources import EDGES, REFERENCES, RESOURCES
from worker.events.event import SnapshotProgress
from worker.store.engine import get_driver_connection
from worker.store.lease import Transaction
from worker.store.mirror.cascade import EDGE_BATCH
from worker.store.mirror.change import Change
from worker.store.mirror.merge import load_rows
from worker.store.mirror.nesting import note_erased_edges

_ZERO = "00000000-0000-0000-0000-000000000000"
_EDGE_NAMES = ", ".join(f"'{one.name}'" for one in EDGES)
_MENTIONS_KEYS = f"""
    (key = any(:keys)
     or resource in ({_EDGE_NAMES})
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
    pointing: dict[Resource, list[tuple[str, bool]]] = field(default_factory=dict)
    """Keys of rows that named the object, each with whether it was live."""
    counts: dict[str, int] = field(default_factory=dict)
    """Deleted rows, by table."""

    @property
    def has_rows(self) -> bool:
        return self.row is not None or any(self.pointing.values())

    @property
    def referring(self) -> list[str]:
        """The keys, except of edges, whose keys name the object themselves."""
        listed = (found for of, found in self.pointing.items() if not of.is_edge)
        return [key for found in listed for key, _ in found]

    def add(self, of: Resource, found: Sequence[Sequence[Any]]) -> None:
        """Add deleted rows: the columns of the key, then whether the row was live."""
        if found:
            known = self.pointing.setdefault(of, [])
            known += [("/".join(key), live) for *key, live in found]
            self.counts[f"{DIRECTORY}.{of.name}"] = len(known)

    def build_deletions(self) -> list[tuple[Resource, list[Change]]]:
        """Return the deletions of live rows that pointed at the object, without their data."""
        return [
            (of, [Change(ChangeKind.DELETED, key) for key, live in keys if live])
            for of, keys in self.pointing.items()
        ]


@dataclass
class EdgeErasure:
    """The edges of an object that has more of them than fit in one transaction."""

    resource: Resource
    key: str
    cursor: str = _ZERO
    """Edges whose key begins with the object are read by key, from where the last batch ended."""

    def erase_batch(self, tx: Transaction) -> ErasedRows:
        """Delete ``EDGE_BATCH`` edges of one resource physically; none if fewer are left."""
        taken = ErasedRows()
        for edge in EDGES:
            found = [one for one in REFERENCES[self.resource.name] if one.resource is edge]
            if not taken.pointing and found:
                self._erase_edges(tx, taken, edge, [one.property.name for one in found])
        return taken

    def _erase_edges(
        self, tx: Transaction, taken: ErasedRows, edge: Resource, columns: list[str]
    ) -> None:
        values = {"owner": tx.connection_id, "id": self.key, "place": self.cursor}
        place, pairs = self.cursor, list[tuple[Any, ...]]()
        with get_driver_connection(tx.db).cursor() as cursor:
            for column in columns:
                left = EDGE_BATCH - len(pairs)
                cursor.execute(_build_batch_query(edge, column), {**values, "limit": left})
                pairs += cursor.fetchall()
                if column == edge.key[0] and pairs:
                    place = pairs[-1][1]
            if len(pairs) < EDGE_BATCH:
                return
            where = [(tx.connection_id, *pair) for pair in pairs]
            cursor.executemany(_build_deletion(edge, *edge.key), where, returning=True)
            more: bool | None = True
            while more:
                taken.add(edge, cursor.fetchall())
                more = cursor.nextset()
        note_erased_edges(tx, edge, self.resource, pairs)
        self.cursor = place


def _build_batch_query(edge: Resource, column: str) -> str:
    first, second = edge.key
    by_key = f" and {second} >= %(place)s order by {second}" if column == first else ""
    return (
        f"select {first}, {second} from {DIRECTORY}.{edge.name}"
        f" where {OWNER} = %(owner)s and {column} = %(id)s{by_key} limit %(limit)s"
    )


def _build_deletion(resource: Resource, *columns: str) -> str:
    """Return a statement that deletes a connection's rows by the values of some columns."""
    types = {one.name: one.type.sql for one in resource.columns}
    where = " and ".join(f"{one} = %s::{types[one]}" for one in columns)
    key = ", ".join(resource.key)
    return (
        f"delete from {DIRECTORY}.{resource.name} where {OWNER} = %s and {where}"
        f" returning {key}, deleted_at is null"
    )


def erase_rows(tx: Transaction, resource: Resource, key: str) -> ErasedRows:
    """Delete an object's rows physically, with those that name it, such as its role assignments.

    ``EdgeErasure`` has left at most as many edges as fit in one transaction.
    """
    taken = ErasedRows()
    stored = load_rows(tx, resource, [key]).get(key)
    with get_driver_connection(tx.db).cursor() as cursor:
        if stored is not None:
            taken.row = dict(zip(resource.column_names, stored.row, strict=True))
            cursor.execute(_build_deletion(resource, resource.key[0]), (tx.connection_id, key))
            taken.counts[f"{DIRECTORY}.{resource.name}"] = len(cursor.fetchall())
        for of, column in REFERENCES[resource.name]:
            cursor.execute(_build_deletion(of, column.name), (tx.connection_id, key))
            found = cursor.fetchall()
            taken.add(of, found)
            note_erased_edges(tx, of, resource, found)
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
    # A part about the members of an object has the name of the edges.
    return found and (RESOURCES[found].parent or found)
