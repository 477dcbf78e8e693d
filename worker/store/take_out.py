"""Taking an object out for good: its row, what points at it, and what our bookkeeping has of it.

Nothing is left that a sync, a sweep or an operator's word could go on from.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, text

from models.base import DIRECTORY
from models.change_event import ChangeKind
from models.resource import OWNER, Kind, Resource
from models.resources import RESOURCES
from models.resources.group_members import GROUP_MEMBERS
from models.resources.role_assignments import ROLE_ASSIGNMENTS
from worker.store.cascade import LIMIT
from worker.store.change import Change
from worker.store.edges import edge_key
from worker.store.engine import driver
from worker.store.lease import Transaction
from worker.store.merge import stored_rows
from worker.store.progress import Progress
from worker.store.writing import sql_type

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
_TAKE_EDGES = """
    delete from directory.group_members
     where connection_id = %s and group_id = %s and member_id = %s
 returning group_id, member_id, deleted_at is null
"""
_ASSIGNMENTS = """
    delete from directory.role_assignments where connection_id = %s and principal_id = %s::uuid
 returning id, deleted_at is null
"""
_ABOUT = """
    (key = any(:keys)
     or resource = 'group_members'
        and (split_part(key, '/', 1) = any(:keys) or split_part(key, '/', 2) = any(:keys)))
"""
_REMOVALS = text(f"delete from sync.removals where connection_id = :id and {_ABOUT}")
_CANDIDATES = text(f"delete from sync.candidates where connection_id = :id and {_ABOUT}")
_QUARANTINE = text(f"delete from sync.quarantine where connection_id = :id and {_ABOUT}")
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
_SEE = text("""
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
_KEPT_APART = text("""
    select resource from sync.quarantine where connection_id = :id and key = :key
     union all
    select resource from sync.removals where connection_id = :id and key = :key
     union all
    select resource from sync.unresolved where connection_id = :id and key = :key
     limit 1
""")


@dataclass
class TakenOut:
    """What went, for the events and the operator."""

    row: dict[str, Any] | None = None
    """The object's columns."""
    edges: list[tuple[str, bool]] = field(default_factory=list)
    """Memberships, each with whether it was live."""
    assignments: list[tuple[str, bool]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    """Rows of each table."""

    @property
    def anything(self) -> bool:
        return self.row is not None or bool(self.edges or self.assignments)

    def endings(self) -> list[tuple[Resource, list[Change]]]:
        """The deletions of what pointed at the object and was live, without what it was."""
        return [
            (of, [Change(ChangeKind.DELETED, key) for key, live in found if live])
            for of, found in (
                (GROUP_MEMBERS, self.edges),
                (ROLE_ASSIGNMENTS, self.assignments),
            )
        ]


@dataclass
class Crowd:
    """The memberships of an object that has more of them than one transaction takes."""

    resource: Resource
    key: str
    place: str = _ZERO
    """Members of a group are read along the key, from where the batch before ended."""

    def take_some(self, tx: Transaction) -> TakenOut:
        """Delete ``LIMIT`` memberships physically; none where fewer are left."""
        taken = TakenOut()
        if self.resource.kind is not Kind.ENTITY:
            return taken
        values = {"owner": tx.connection_id, "id": self.key, "place": self.place}
        with driver(tx.connection).cursor() as cursor:
            cursor.execute(_SOME_MEMBERS, {**values, "limit": LIMIT})
            pairs = cursor.fetchall()
            place = pairs[-1][1] if pairs else self.place
            cursor.execute(_SOME_GROUPS, {**values, "limit": LIMIT - len(pairs)})
            pairs += cursor.fetchall()
            if len(pairs) < LIMIT:
                return taken
            cursor.executemany(
                _TAKE_EDGES, [(tx.connection_id, *pair) for pair in pairs], returning=True
            )
            more: bool | None = True
            while more:
                taken.edges += [(edge_key((g, m)), live) for g, m, live in cursor.fetchall()]
                more = cursor.nextset()
        self.place = place
        taken.counts = {f"{DIRECTORY}.group_members": len(taken.edges)}
        return taken


def take_out(tx: Transaction, resource: Resource, key: str) -> TakenOut:
    """Delete an object's rows physically, with its memberships and role assignments.

    ``Crowd`` leaves no more memberships to this than one transaction should have.
    """
    taken = TakenOut()
    stored = stored_rows(tx, resource, [key]).get(key)
    with driver(tx.connection).cursor() as cursor:
        if stored is not None:
            taken.row = dict(zip(resource.column_names, stored.row, strict=True))
            cursor.execute(
                f"delete from {DIRECTORY}.{resource.name}"
                f" where {OWNER} = %s and {resource.key[0]} = %s",
                (tx.connection_id, key),
            )
            taken.counts[f"{DIRECTORY}.{resource.name}"] = cursor.rowcount
        if resource.kind is Kind.ENTITY:
            for statement in _EDGES:
                cursor.execute(statement, (tx.connection_id, key))
                taken.edges += [(edge_key((g, m)), live) for g, m, live in cursor.fetchall()]
            cursor.execute(_ASSIGNMENTS, (tx.connection_id, key))
            taken.assignments = cursor.fetchall()
    found = {
        f"{DIRECTORY}.group_members": len(taken.edges),
        f"{DIRECTORY}.role_assignments": len(taken.assignments),
    }
    taken.counts |= {table: number for table, number in found.items() if number}
    return taken


def take_out_evidence(tx: Transaction, keys: Collection[str]) -> dict[str, int]:
    """Delete what our bookkeeping has of some ids; how many rows of each table were touched."""
    values = {"id": tx.connection_id, "keys": list(keys)}
    counts = {
        "sync.removals": tx.connection.execute(_REMOVALS, values).rowcount,
        "sync.candidates": tx.connection.execute(_CANDIDATES, values).rowcount,
        "sync.quarantine": tx.connection.execute(_QUARANTINE, values).rowcount,
        "sync.unresolved": tx.connection.execute(_UNRESOLVED, values).rowcount,
        "sync.seen": _unsee(tx, keys),
        "events.positions": _step_back(tx, keys),
    }
    return {table: number for table, number in counts.items() if number}


def _unsee(tx: Transaction, gone: Collection[str]) -> int:
    """Take ids out of what a walk under way has seen: a sweep asks for what is stored only."""
    values = {"id": tx.connection_id, "keys": list(gone)}
    pages = tx.connection.execute(_SEEN_PAGES, values).all()
    for resource, walk_id, page_no in pages:
        where = {"id": tx.connection_id, "resource": resource, "walk": walk_id, "page": page_no}
        page = tx.connection.execute(_SEEN, where).one()
        keys, properties = without_keys(page.keys, page.properties, gone)
        tx.connection.execute(_SEE, {**where, "keys": keys, "properties": properties})
    return len(pages)


def without_keys(
    keys: Sequence[str], properties: Sequence[int] | None, gone: Collection[str]
) -> tuple[list[str], list[int] | None]:
    """A page of evidence without some ids, on either side of a pair."""
    kept = [n for n, key in enumerate(keys) if not any(part in gone for part in key.split("/"))]
    bits = None if properties is None else [properties[n] for n in kept]
    return [keys[n] for n in kept], bits


def _step_back(tx: Transaction, gone: Collection[str]) -> int:
    """Snapshots that have come to a row which is gone: they go on behind the row before it."""
    changed = 0
    for sink_id, stored in tx.connection.execute(_SNAPSHOTS, {"id": tx.connection_id}).all():
        reached = Progress.of(stored)
        if not any(part in gone for part in reached.after):
            continue
        before = _row_before(tx.connection, tx.connection_id, reached)
        snapshot = reached._replace(after=before).stored
        values = {"id": tx.connection_id, "sink": sink_id, "snapshot": snapshot}
        tx.connection.execute(_SET_SNAPSHOT, values)
        changed += 1
    return changed


def _row_before(connection: Connection, connection_id: int, reached: Progress) -> tuple[str, ...]:
    """The key of the last row before the one that a snapshot has come to."""
    resource = RESOURCES[reached.resource]
    key = ", ".join(resource.key)
    holes = ", ".join(
        f"%s::{sql_type(column.type)}" for column in resource.columns[: len(resource.key)]
    )
    statement = (
        f"select {key} from {DIRECTORY}.{resource.name}"
        f" where {OWNER} = %s and ({key}) < ({holes})"
        f" order by {', '.join(f'{name} desc' for name in resource.key)} limit 1"
    )
    with driver(connection).cursor() as cursor:
        cursor.execute(statement, (connection_id, *reached.after))
        found = cursor.fetchone()
    return tuple(found) if found else ()


def kept_apart(connection: Connection, connection_id: int, key: str) -> str | None:
    """The resource of an object that only our bookkeeping knows."""
    values = {"id": connection_id, "key": key}
    found: str | None = connection.execute(_KEPT_APART, values).scalar()
    return found
