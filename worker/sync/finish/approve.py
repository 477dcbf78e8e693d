"""Apply or drop held deletions at an operator's decision.

Both come from outside a run, so they take the lease lock and fence the run under way.
"""

from dataclasses import replace

from models.change_event import ChangeKind
from models.resources import RESOURCES
from worker.events.append import append_events
from worker.store.engine import Database
from worker.store.lease import Transaction, interrupt_writer
from worker.store.mirror.cascade import BatchedDeletion
from worker.store.state.connections import update_connection
from worker.store.state.streams import load_streams, save_stream
from worker.store.sweep.removals import (
    count_removals,
    drop_removals,
    list_removals,
    withdraw_removals,
)
from worker.sync.state import release_hold


def approve_held(database: Database, connection_id: int) -> int:
    """Delete the held rows in fenced batches; return how many, memberships included."""
    deleted = 0
    for resource in RESOURCES.values():
        deletion, more = BatchedDeletion(resource), True
        while more:
            with interrupt_writer(database, connection_id) as tx:
                reasons = list_removals(tx, resource, held=True)
                changes, done = deletion.advance(tx, reasons)
                append_events(tx, changes, run_id=None)
                if done:
                    withdraw_removals(tx, resource, list(reasons))
            deleted += sum(c.kind is ChangeKind.DELETED for _, some in changes for c in some)
            more = bool(reasons)
    with interrupt_writer(database, connection_id) as tx:
        _release_streams(tx, needs_full_walk=False)
    return deleted


def reject_held(database: Database, connection_id: int) -> int:
    """Drop the held deletions and schedule full walks; return how many were dropped.

    Removals that a round under way has announced stay: the guard has not checked them yet, and
    Graph announces them only once.
    """
    with interrupt_writer(database, connection_id) as tx:
        dropped = sum(n for (_, held), n in count_removals(tx).items() if held)
        for resource in RESOURCES.values():
            drop_removals(tx, resource, held=True)
        _release_streams(tx, needs_full_walk=True)
    return dropped


def _release_streams(tx: Transaction, *, needs_full_walk: bool) -> None:
    """Release the held streams and make them due at once."""
    now = tx.read_clock()
    for stream in load_streams(tx.db, tx.connection_id).values():
        if stream.is_held:
            after = replace(release_hold(stream), due_at=now)
            save_stream(tx, stream, replace(after, full_due_at=now) if needs_full_walk else after)
    update_connection(tx, due_at=now)
