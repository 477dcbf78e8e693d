"""Apply or drop held deletions at an operator's decision.

Both come from outside a run, so they take the lease lock and fence the run under way. An approval
marks what is held, in one transaction with the check that it is what the operator saw, and then
deletes what is marked: an interrupted one continues, and what is held later stays held.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import sqlalchemy as sa

from models.change_event import ChangeKind
from models.resource import Resource
from models.resources import RESOURCES
from worker.core.errors import ExpectationChanged
from worker.core.process.failpoints import hit_failpoint
from worker.events.append import append_events
from worker.store.engine import Database
from worker.store.lease import Transaction, interrupt_writer
from worker.store.mirror.cascade import BatchedDeletion
from worker.store.mirror.change import Change
from worker.store.state.connections import Connection, update_connection
from worker.store.state.streams import load_streams, save_stream
from worker.store.sweep.held import HeldSet, list_approved, mark_approved, summarize_held
from worker.store.sweep.removals import count_removals, drop_removals, withdraw_removals
from worker.sync.state import release_hold

DIGEST_LENGTH: Final = 16
"""Characters of a digest that people and scripts repeat."""

OnDeleted = Callable[[Transaction, Counter[str]], None]
"""Called in the transaction of each batch with the rows deleted in it, by resource."""


@dataclass(frozen=True)
class SeenSet:
    """What an operator saw held of one resource."""

    count: int
    digest: str


def combine_digests(held: Sequence[HeldSet]) -> str:
    """Return one digest of all that is held of a connection; empty if nothing is."""
    if not held:
        return ""
    parts = sorted(f"{one.resource}:{one.count}:{one.digest}" for one in held)
    return hashlib.sha256(";".join(parts).encode()).hexdigest()[:DIGEST_LENGTH]


def check_expectation(
    db: sa.Connection, connection: Connection, expected: Mapping[str, SeenSet]
) -> list[HeldSet]:
    """Return what is held now. Raises ExpectationChanged if an operator saw something else."""
    held = summarize_held(db, connection.id)
    if {one.resource: SeenSet(one.count, one.digest) for one in held} != expected:
        error = ExpectationChanged(
            "what is held has changed: "
            f"{describe_counts({one.resource: one.count for one in held})} now, "
            f"{describe_counts({name: one.count for name, one in expected.items()})} when it was "
            "shown; nothing was done, look again",
            connection=connection.label,
        )
        error.current = [one.to_json() for one in held]
        raise error
    return held


def describe_counts(counts: Mapping[str, int]) -> str:
    """Return numbers of rows by resource in words: "150 users and 144 group members"."""
    parts = [f"{n:,} {name.replace('_', ' ')}" for name, n in counts.items() if n]
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]])) or "nothing"


def approve_held(database: Database, connection_id: int) -> int:
    """Delete all that is held now; return how many rows, memberships included."""
    with interrupt_writer(database, connection_id) as tx:
        mark_approved(tx)
    deleted = Counter[str]()
    delete_approved(database, connection_id, on_deleted=lambda _tx, rows: deleted.update(rows))
    return sum(deleted.values())


def delete_approved(
    database: Database,
    connection_id: int,
    *,
    on_deleted: OnDeleted,
    should_stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Delete the approved rows in fenced batches; return False if it had to stop before the end."""
    for resource in RESOURCES.values():
        if not _delete_resource(database, connection_id, resource, on_deleted, should_stop):
            return False
    with interrupt_writer(database, connection_id) as tx:
        _release_streams(tx, needs_full_walk=False)
    return True


def _delete_resource(
    database: Database,
    connection_id: int,
    resource: Resource,
    on_deleted: OnDeleted,
    should_stop: Callable[[], bool],
) -> bool:
    deletion = BatchedDeletion(resource)
    while True:
        with interrupt_writer(database, connection_id) as tx:
            reasons = list_approved(tx, resource)
            if not reasons:
                return True
            changes, done = deletion.advance(tx, reasons)
            append_events(tx, changes, run_id=None)
            if done:
                withdraw_removals(tx, resource, list(reasons))
            on_deleted(tx, _count_deleted(changes))
        hit_failpoint("approved-batch")
        if should_stop():
            return False


def _count_deleted(changes: Sequence[tuple[Resource, list[Change]]]) -> Counter[str]:
    counts = Counter[str]()
    for resource, some in changes:
        counts[resource.name] += sum(one.kind is ChangeKind.DELETED for one in some)
    return counts


def reject_held(database: Database, connection_id: int) -> int:
    """Drop the held deletions and schedule full walks; return how many were dropped."""
    with interrupt_writer(database, connection_id) as tx:
        return drop_held(tx)


def drop_held(tx: Transaction) -> int:
    """Drop the held deletions and schedule full walks; return how many were dropped.

    Removals that a round under way has announced stay: the guard has not checked them yet, and
    Graph announces them only once.
    """
    dropped = sum(n for (_, held), n in count_removals(tx).items() if held)
    for resource in RESOURCES.values():
        drop_removals(tx, resource, held=True)
    _release_streams(tx, needs_full_walk=True)
    return dropped


def _release_streams(tx: Transaction, *, needs_full_walk: bool) -> None:
    """Release the held streams of which nothing is held any more, and make them due at once."""
    now = tx.read_clock()
    held = {name for (name, is_held) in count_removals(tx) if is_held}
    for stream in load_streams(tx.db, tx.connection_id).values():
        if stream.is_held and held.isdisjoint(one.name for one in stream.carried_resources):
            after = replace(release_hold(stream), due_at=now)
            save_stream(tx, stream, replace(after, full_due_at=now) if needs_full_walk else after)
    update_connection(tx, due_at=now)
