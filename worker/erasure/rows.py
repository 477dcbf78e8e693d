"""Delete an erased object's rows: memberships first, in batches if there are many.

The last transaction deletes the row and its bookkeeping rows, and appends the deletion event.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from models.change_event import ChangeKind
from models.resources import RESOURCES
from worker.core.process.failpoints import hit_failpoint
from worker.erasure.store.progress import create_digests, save_erasure
from worker.erasure.store.rows import EdgeErasure, ErasedRows, erase_bookkeeping, erase_rows
from worker.erasure.store.sinks import SinkBehind
from worker.erasure.store.text import extract_names, redact_texts
from worker.erasure.target import ErasureTarget
from worker.events.append import append_events
from worker.store.engine import Database
from worker.store.lease import Transaction, interrupt_writer
from worker.store.mirror.change import Change
from worker.store.state.connections import get_connection
from worker.store.state.erasures import PendingErasure, find_erasure
from worker.store.state.streams import load_streams, save_stream
from worker.sync.sources.members import remove_parent


@dataclass
class ErasureResult:
    """The result of an erasure."""

    placeholder: str
    """Replaces the id."""
    is_new: bool = False
    """Whether it was not erased before."""
    row_counts: dict[str, int] = field(default_factory=dict)
    """How many rows were deleted or redacted this time, by table."""
    names: set[str] = field(default_factory=set)
    """The object's names, shown to the operator and never stored."""
    sinks_behind: list[SinkBehind] = field(default_factory=list)
    """Sinks that have not received every deletion."""


def erase_target_rows(database: Database, target: ErasureTarget) -> ErasureResult:
    """Erase all but the events, the row in the last transaction; fence slices under way."""
    with database.open_transaction() as db:
        get_connection(db, target.connection_id)
    taken = _erase_memberships(database, target)
    done = _erase_object(database, target)
    for table, rows in taken.row_counts.items():
        done.row_counts[table] = done.row_counts.get(table, 0) + rows
        done.is_new = taken.is_new
    return done


class ErasedMemberships(NamedTuple):
    """The memberships erased before the last transaction."""

    row_counts: Mapping[str, int]
    """How many, by table."""
    is_new: bool
    """Whether the object was not erased before."""


def _erase_memberships(database: Database, target: ErasureTarget) -> ErasedMemberships:
    """Delete all but the last memberships of an object that has very many, with their events.

    The erasure is stored with the first batch: syncs skip the object, and maintenance continues
    after an interruption.
    """
    crowd = EdgeErasure(RESOURCES[target.resource], target.id)
    rows, new = Counter[str](), False
    while True:
        with interrupt_writer(database, target.connection_id) as tx:
            taken = crowd.erase_batch(tx)
            if not taken.pointing:
                return ErasedMemberships(rows, new)
            append_events(tx, taken.build_deletions(), run_id=None)
            digest = create_digests(tx.db).digest(target.id)
            before = find_erasure(tx.db, tx.connection_id, digest)
            new = new or before is None
            known = before.pending.referring if before and before.pending else []
            pending = PendingErasure(id=target.id, referring=known, rows=True)
            save_erasure(tx, digest, target.resource, pending)
        rows.update(taken.counts)
        hit_failpoint("memberships-erased")


def _erase_object(database: Database, target: ErasureTarget) -> ErasureResult:
    with interrupt_writer(database, target.connection_id) as tx:
        mine = create_digests(tx.db)
        before = find_erasure(tx.db, tx.connection_id, mine.digest(target.id))
        taken = erase_rows(tx, RESOURCES[target.resource], target.id)
        done = ErasureResult(mine.render_mark(target.id), before is None, dict(taken.counts))
        done.names = extract_names(taken.row or {})
        done.row_counts |= _redact_bookkeeping(tx, target, taken, done.names)
        if before is None or taken.has_rows or (before.pending and before.pending.rows):
            pending = _append_deletion(tx, target, taken)
            if pending and before and before.pending:
                pending.referring += before.pending.referring
            save_erasure(tx, mine.digest(target.id), target.resource, pending)
    return done


def _redact_bookkeeping(
    tx: Transaction, target: ErasureTarget, taken: ErasedRows, names: set[str]
) -> dict[str, int]:
    keys = {target.id, *taken.referring}
    counts = erase_bookkeeping(tx, keys) | redact_texts(tx, names | keys)
    if RESOURCES[target.resource].relations:
        _move_member_cursor(tx, target)
    return counts


def _move_member_cursor(tx: Transaction, target: ErasureTarget) -> None:
    """Move a member cursor past the erased parent, so that the walk continues after it."""
    stream = load_streams(tx.db, tx.connection_id)[target.resource]
    after = replace(
        stream,
        next_link=_remove_parent(stream.next_link, target.id),
        loop_mark=_remove_parent(stream.loop_mark, target.id),
    )
    if after != stream:
        save_stream(tx, stream, after)


def _remove_parent(link: str | None, parent: str) -> str | None:
    return None if link is None else remove_parent(link, parent)


def _append_deletion(
    tx: Transaction, target: ErasureTarget, taken: ErasedRows
) -> PendingErasure | None:
    """Append the deletion event without the object's data; return what is to be redacted.

    As with every deletion, its memberships and assignments end before it.
    """
    if not (target.is_known or taken.has_rows):
        return None
    closing = (RESOURCES[target.resource], [Change(ChangeKind.DELETED, target.id)])
    append_events(tx, [*taken.build_deletions(), closing], run_id=None)
    return PendingErasure(id=target.id, referring=taken.referring)
