"""Deletion of rows: a deleted row stays as a tombstone, with a reason, until it is purged."""

from collections.abc import Mapping

from sqlalchemy import text

from models.base import DIRECTORY
from models.resource import OWNER, Resource
from models.resources import EDGES_OF
from worker.rows.shape import get_shape
from worker.store.engine import get_driver_connection
from worker.store.lease import Transaction
from worker.store.mirror import compare
from worker.store.mirror.change import Change
from worker.store.mirror.edges import delete_edges, end_edges_of, parse_edge_key
from worker.store.mirror.merge import load_rows
from worker.store.mirror.write import update_each
from worker.store.state.quarantine import delete_faults
from worker.store.state.streams import load_untold_columns


def delete_objects(
    tx: Transaction, resource: Resource, reasons: Mapping[str, str]
) -> list[tuple[Resource, list[Change]]]:
    """Tombstone the given keys (key to reason), and end the edges of these objects.

    An unknown key only ends its edges, which may have arrived before it. A deleted key gets the new
    reason without an event. Held removals of the ended edges are dropped.
    ``cascade.BatchedDeletion`` ends edges first, so that few are left for one transaction.
    """
    if resource.is_edge:
        pairs = {parse_edge_key(key): reason for key, reason in reasons.items()}
        return [(resource, delete_edges(tx, resource, pairs))]
    shape = get_shape(resource)
    stored = load_rows(tx, resource, list(reasons))
    live = [key for key, old in stored.items() if old.is_live]
    _tombstone(tx, resource, {key: reasons[key] for key in live})
    delete_faults(tx, resource, list(stored))
    _correct_reason(
        tx, resource, {key: reasons[key] for key, old in stored.items() if not old.is_live}
    )
    untold = load_untold_columns(tx, resource) if live else 0
    changes = [compare.build_deleted(shape, key, stored[key].row, untold=untold) for key in live]
    ended = []
    for edge, columns in EDGES_OF.get(resource.name, ()):
        edges = end_edges_of(tx, edge, columns, reasons)
        drop_ended_removals(tx, edge, edges)
        ended.append((edge, edges))
    return [*ended, (resource, changes)]


def drop_ended_removals(tx: Transaction, edge: Resource, ended: list[Change]) -> None:
    """Delete held removals of edges that have ended with one of their ends."""
    if ended:
        values = {"id": tx.connection_id, "resource": edge.name}
        tx.db.execute(_DROP_ENDED, {**values, "keys": [one.key for one in ended]})


def _tombstone(tx: Transaction, resource: Resource, reasons: Mapping[str, str]) -> None:
    """Turn live rows into tombstones. Each has an event, so each must exist."""
    statement = (
        f"update {DIRECTORY}.{resource.name} set deleted_reason = %s, row_hash = null,"
        " source_hash = null, changed_at = %s, deleted_at = %s"
        f" where {OWNER} = %s and {resource.key[0]} = %s and deleted_at is null"
    )
    where = (tx.moment, tx.moment, tx.connection_id)
    update_each(tx, resource, statement, [(reason, *where, key) for key, reason in reasons.items()])


def _correct_reason(tx: Transaction, resource: Resource, reasons: Mapping[str, str]) -> None:
    """Give tombstones a new reason, without an event.

    Rows that already have it are not updated, so fewer rows than keys may change.
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


_DROP_ENDED = text("""
    delete from sync.removals
     where connection_id = :id and resource = :resource and held
       and key = any(cast(:keys as text[]))
""")


_LIVE = "select count(*) from {schema}.{table} where connection_id = :id and deleted_at is null"


def count_live_rows(tx: Transaction, resource: Resource) -> int:
    """Return how many rows of a resource are live."""
    statement = _LIVE.format(schema=DIRECTORY, table=resource.name)
    return int(tx.db.execute(text(statement), {"id": tx.connection_id}).scalar_one())
