"""Taking rows out: a deleted row stays as a tombstone, with the reason, until it is purged."""

from collections.abc import Mapping

from sqlalchemy import text

from models.base import DIRECTORY
from models.resource import OWNER, Kind, Resource
from models.resources.group_members import GROUP_MEMBERS
from models.row import get_shape
from worker.store import compare
from worker.store.change import Change
from worker.store.edges import delete_edges, end_edges_of, parse_edge_key
from worker.store.engine import get_driver_connection, prefer_hash_joins
from worker.store.lease import Transaction
from worker.store.merge import get_key_array_type, load_rows
from worker.store.quarantine import delete_faults
from worker.store.updates import update_each

DELETION_BATCH = 500
"""Deletions in one transaction: large sweeps go in fenced batches."""


def delete_objects(
    tx: Transaction, resource: Resource, reasons: Mapping[str, str]
) -> list[tuple[Resource, list[Change]]]:
    """Tombstone the given keys (key to reason), memberships of users and groups with them.

    A key that is unknown only ends its memberships (they may have come before it did); one that
    is dead already gets the new reason, silently. Memberships that go along wait for nobody.
    ``cascade.Deletion`` leaves no more of them to this than one transaction should have.
    """
    if resource.kind is Kind.EDGE:
        pairs = {parse_edge_key(key): reason for key, reason in reasons.items()}
        return [(resource, delete_edges(tx, pairs))]
    shape = get_shape(resource)
    stored = load_rows(tx, resource, list(reasons))
    live = [key for key, old in stored.items() if old.is_live]
    _tombstone(tx, resource, {key: reasons[key] for key in live})
    delete_faults(tx, resource, list(stored))
    _correct_reason(
        tx, resource, {key: reasons[key] for key, old in stored.items() if not old.is_live}
    )
    changes = [compare.build_deleted(shape, key, stored[key].row) for key in live]
    edges = end_edges_of(tx, reasons) if resource.kind is Kind.ENTITY else []
    drop_ended_removals(tx, edges)
    return [(GROUP_MEMBERS, edges), (resource, changes)]


def drop_ended_removals(tx: Transaction, edges: list[Change]) -> None:
    """Forget held removals of memberships that have ended with one of their ends."""
    if edges:
        values = {"id": tx.connection_id, "resource": GROUP_MEMBERS.name}
        tx.db.execute(_DROP_ENDED, {**values, "keys": [edge.key for edge in edges]})


def _tombstone(tx: Transaction, resource: Resource, reasons: Mapping[str, str]) -> None:
    """Make tombstones of live rows. Each has an event, so each must be there."""
    statement = (
        f"update {DIRECTORY}.{resource.name} set deleted_reason = %s, row_hash = null,"
        " source_hash = null, changed_at = %s, deleted_at = %s"
        f" where {OWNER} = %s and {resource.key[0]} = %s and deleted_at is null"
    )
    where = (tx.moment, tx.moment, tx.connection_id)
    update_each(tx, resource, statement, [(reason, *where, key) for key, reason in reasons.items()])


def _correct_reason(tx: Transaction, resource: Resource, reasons: Mapping[str, str]) -> None:
    """Give tombstones another reason, without an event.

    Those that have it already stay as they are, so fewer rows than keys may be updated.
    """
    statement = (
        f"update {DIRECTORY}.{resource.name} set deleted_reason = %s, row_hash = null,"
        f" source_hash = null where {OWNER} = %s and {resource.key[0]} = %s"
        " and deleted_at is not null and deleted_reason is distinct from %s"
    )
    values = [(reason, tx.connection_id, key, reason) for key, reason in reasons.items()]
    if values:
        with get_driver_connection(tx.db).cursor() as cursor:
            cursor.executemany(statement, values)


_NOTE = text("""
    insert into sync.removals (connection_id, resource, key, reason)
    select :id, :resource, unnest(cast(:keys as text[])), unnest(cast(:reasons as text[]))
    on conflict (connection_id, resource, key) do update set reason = excluded.reason
""")
_WITHDRAW = text("""
    delete from sync.removals
     where connection_id = :id and resource = :resource and key = any(cast(:keys as text[]))
""")
_DROP_ENDED = text("""
    delete from sync.removals
     where connection_id = :id and resource = :resource and held
       and key = any(cast(:keys as text[]))
""")
_PENDING = text("""
    select key, reason from sync.removals
     where connection_id = :id and resource = :resource and held = :held and key > :after
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
_LIVE = "select count(*) from {schema}.{table} where connection_id = :id and deleted_at is null"


def note_removals(tx: Transaction, resource: Resource, reasons: Mapping[str, str]) -> None:
    """Remember deletions until their round is complete and believed."""
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
    """An object that appears again is not removed after all."""
    if not keys:
        return 0
    values = {"id": tx.connection_id, "resource": resource.name, "keys": keys}
    return tx.db.execute(_WITHDRAW, values).rowcount


def count_removals(tx: Transaction) -> dict[tuple[str, bool], int]:
    """How many removals wait, by resource and whether they are held."""
    rows = tx.db.execute(_COUNTS, {"id": tx.connection_id})
    return {(row.resource, row.held): row.number for row in rows}


def count_live_removals(tx: Transaction, resource: Resource) -> int:
    """Removals, not held yet, that would really delete a row: what the guard judges."""
    if resource.kind is Kind.EDGE:
        match = (
            "t.group_id = split_part(r.key, '/', 1)::uuid"
            " and t.member_id = split_part(r.key, '/', 2)::uuid"
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


def list_removals(
    tx: Transaction, resource: Resource, *, after: str = "", held: bool = False
) -> dict[str, str]:
    """The next ``DELETION_BATCH`` removals that wait, in order behind a key: key to reason."""
    values = {
        "id": tx.connection_id,
        "resource": resource.name,
        "limit": DELETION_BATCH,
        "held": held,
        "after": after,
    }
    return {row.key: row.reason for row in tx.db.execute(_PENDING, values)}


def hold_removals(tx: Transaction, resource: Resource) -> None:
    tx.db.execute(_HOLD, {"id": tx.connection_id, "resource": resource.name})


def drop_removals(tx: Transaction, resource: Resource, *, held: bool = False) -> None:
    """Forget deletions that wait: all of a resource, or only those that are ``held``."""
    values = {"id": tx.connection_id, "resource": resource.name, "held": held}
    tx.db.execute(_DROP, values)


def count_live_rows(tx: Transaction, resource: Resource) -> int:
    """Rows of a resource that are live now."""
    statement = _LIVE.format(schema=DIRECTORY, table=resource.name)
    return int(tx.db.execute(text(statement), {"id": tx.connection_id}).scalar_one())
