"""Erase an object permanently: its data goes, the fact that it existed stays.

First its memberships are deleted, in batches if there are many, and a digest is stored that keeps
syncs from bringing it back. Then, in one transaction, its row and its bookkeeping rows are deleted,
and a deletion event is appended. Then its events are redacted in batches. An interrupted erasure
continues where it was. Deletion events keep their keys until every sink has received them: a
receiver has to know which object to delete.
"""

from models.resources import RESOURCES
from worker.core.errors import NotFound, StateConflict
from worker.core.log import get_logger
from worker.core.process.failpoints import hit_failpoint
from worker.erasure.redact import EventRedactor, OnErasureProgress
from worker.erasure.rows import ErasureResult, erase_target_rows
from worker.erasure.store.events import BATCH_EVENTS
from worker.erasure.store.lookup import find_namesakes, list_connections_with_object
from worker.erasure.store.progress import (
    delete_erasure,
    find_unfinished_rows,
    list_unfinished_erasures,
)
from worker.erasure.store.sinks import SinkBehind, list_sinks_behind, list_touched_resources
from worker.erasure.target import ErasureTarget
from worker.store.engine import Database
from worker.store.lease import Transaction, interrupt_writer
from worker.store.state.connections import SYNCED_STATUSES, get_connection, request_resync
from worker.store.state.erasures import Erasure, find_erasure, get_digests


def erase(
    database: Database,
    target: ErasureTarget,
    on_progress: OnErasureProgress,
    *,
    batch_size: int = BATCH_EVENTS,
) -> ErasureResult:
    """Erase an object, or continue its erasure. Raises NotFound if there is no such connection."""
    done = erase_target_rows(database, target)
    hit_failpoint("erasure-begun")
    continue_erasure(database, target, done, on_progress, batch=batch_size)
    return done


def continue_erasure(
    database: Database,
    target: ErasureTarget,
    done: ErasureResult,
    on_progress: OnErasureProgress,
    *,
    batch: int = BATCH_EVENTS,
) -> list[SinkBehind]:
    """Redact the rest of an erasure; return the sinks that it still waits for."""
    with database.open_transaction() as db:
        digest = get_digests(db).digest(target.id)
    scrubbing = EventRedactor(
        database, target.connection_id, digest, on_progress, batch, done.names
    )
    done.sinks_behind = scrubbing.run()
    if scrubbing.event_count:
        done.row_counts["events.change_events"] = scrubbing.event_count
    return done.sinks_behind


def finish_erasures(database: Database) -> int:
    """Continue every erasure that was interrupted or waited for a sink; return the event count."""
    with database.open_transaction() as db:
        found = list_unfinished_erasures(db)
    events = 0
    for connection_id, digest in found:
        _finish_rows(database, connection_id, digest)
        scrubbing = EventRedactor(database, connection_id, digest, lambda _table, _rows: None)
        waits = scrubbing.run()
        events += scrubbing.event_count
        if waits:
            get_logger().warning(
                "erasure waits for sinks",
                connection_id=connection_id,
                sinks=[one.name for one in waits],
            )
    return events


def _finish_rows(database: Database, connection_id: int, digest: bytes) -> None:
    """Delete the rows that an interrupted erasure has left."""
    with database.open_transaction() as db:
        erasure = find_unfinished_rows(db, connection_id, digest)
    if erasure and erasure.pending:
        erase_target_rows(
            database, ErasureTarget(connection_id, erasure.resource, erasure.pending.id)
        )


def find_related(
    database: Database, target: ErasureTarget, done: ErasureResult
) -> list[tuple[int, str, str]]:
    """Return what may concern the same person: connection, resource and id.

    Personal sites of a user, and rows of the object in other connections of the tenant.
    """
    number, resource = target.connection_id, target.resource
    with database.open_transaction() as db:
        others = list_connections_with_object(db, number, resource, target.id)
        namesakes = find_namesakes(db, number, resource, done.names)
    return [
        *((number, kind, one) for kind, one in namesakes),
        *((other, resource, target.id) for other in others),
    ]


def lift_erasure(database: Database, connection_id: int, digest: bytes) -> Erasure:
    """Allow an erased object again, and request a full walk, which brings it back.

    Raises NotFound if it is not erased, StateConflict while its erasure is under way.
    """
    with interrupt_writer(database, connection_id) as tx:
        connection = get_connection(tx.db, connection_id)
        erasure = find_erasure(tx.db, connection_id, digest)
        if erasure is None:
            raise NotFound(
                "there is no such erasure; 'tenant-mirror erase CONNECTION --list' shows them all",
                connection=connection.label,
            )
        if erasure.pending is not None:
            still = f"{erasure.mark} is not scrubbed yet: {_explain_pending(tx, erasure)}"
            raise StateConflict(still, connection=connection.label)
        delete_erasure(tx, erasure)
        if connection.status in SYNCED_STATUSES:
            wanted = [
                name
                for name in list_touched_resources(erasure.resource)
                if not RESOURCES[name].parent
            ]
            request_resync(tx.db, connection_id, wanted, full=True)
    return erasure


def _explain_pending(tx: Transaction, erasure: Erasure) -> str:
    behind = list_sinks_behind(tx.db, erasure)
    if not behind:
        return "'tenant-mirror erase CONNECTION OBJECT' goes on with it"
    names = ", ".join(f"'{one.name}' ({one.status})" for one in behind)
    return f"wait until sink {names} has had the deletion, or remove the sink"
