"""Deleting an erased object's rows: its memberships first, batch by batch where there are many.

The last transaction takes the row, and what our bookkeeping has of the object, and tells its end.
"""

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from models.change_event import ChangeKind
from models.resources import RESOURCES
from worker.core.crash import crash_point
from worker.events.ledger import append
from worker.store.change import Change
from worker.store.connections import get
from worker.store.engine import Database
from worker.store.erasure import (
    Behind,
    Pending,
    find_erasure,
    make_digests,
    put_erasure,
)
from worker.store.free_text import names_of, scrub_texts
from worker.store.lease import Transaction, interrupting
from worker.store.streams import load_streams, save_stream
from worker.store.take_out import Crowd, TakenOut, take_out, take_out_evidence
from worker.sync.members import without_group
from worker.sync.subject import Subject


@dataclass
class Done:
    """What an erasure did."""

    mark: str
    """Stands in the place of the id."""
    new: bool = False
    """It was not erased before."""
    rows: dict[str, int] = field(default_factory=dict)
    """How many rows were deleted or scrubbed this time, by table."""
    names: set[str] = field(default_factory=set)
    """What the object was called; for the eyes of who asked, and never kept."""
    waits: list[Behind] = field(default_factory=list)
    """Sinks that have not had every deletion."""


def take_rows(database: Database, subject: Subject) -> Done:
    """Everything but the events, its row in the last transaction; slices under way are fenced."""
    with database.begin() as connection:
        get(connection, subject.connection_id)
    taken = _take_crowd(database, subject)
    done = _take_rest(database, subject)
    table = "directory.group_members"
    if taken.rows:
        done.rows[table] = done.rows.get(table, 0) + taken.rows
        done.new = taken.new
    return done


class Taken(NamedTuple):
    """What went before the last transaction."""

    rows: int
    new: bool
    """It was not erased before."""


def _take_crowd(database: Database, subject: Subject) -> Taken:
    """End and delete all but the last memberships of an object that has very many.

    The erasure is remembered from the first batch on: syncs pass over the object, and maintenance
    goes on where this is interrupted.
    """
    crowd = Crowd(RESOURCES[subject.resource], subject.id)
    rows, new = 0, False
    while True:
        with interrupting(database, subject.connection_id) as tx:
            taken = crowd.take_some(tx)
            if not taken.edges:
                return Taken(rows, new)
            append(tx, taken.endings(), run_id=None)
            digest = make_digests(tx.connection).of(subject.id)
            before = find_erasure(tx.connection, tx.connection_id, digest)
            new = new or before is None
            known = before.pending.assignments if before and before.pending else []
            pending = Pending(id=subject.id, assignments=known, rows=True)
            put_erasure(tx, digest, subject.resource, pending)
        rows += len(taken.edges)
        crash_point("memberships-erased")


def _take_rest(database: Database, subject: Subject) -> Done:
    with interrupting(database, subject.connection_id) as tx:
        mine = make_digests(tx.connection)
        before = find_erasure(tx.connection, tx.connection_id, mine.of(subject.id))
        taken = take_out(tx, RESOURCES[subject.resource], subject.id)
        done = Done(mine.mark(subject.id), before is None, dict(taken.counts))
        done.names = names_of(taken.row or {})
        done.rows |= _scrub_bookkeeping(tx, subject, taken, done.names)
        if before is None or taken.anything or (before.pending and before.pending.rows):
            pending = _told(tx, subject, taken)
            if pending and before and before.pending:
                pending.assignments += before.pending.assignments
            put_erasure(tx, mine.of(subject.id), subject.resource, pending)
    return done


def _scrub_bookkeeping(
    tx: Transaction, subject: Subject, taken: TakenOut, names: set[str]
) -> dict[str, int]:
    keys = {subject.id, *(key for key, _ in taken.assignments)}
    counts = take_out_evidence(tx, keys) | scrub_texts(tx, names | keys)
    if RESOURCES[subject.resource].children:
        _leave_member_pages(tx, subject)
    return counts


def _leave_member_pages(tx: Transaction, subject: Subject) -> None:
    """A walk through members may stand at a group that is gone: it goes on behind it."""
    stream = load_streams(tx.connection, tx.connection_id)[subject.resource]
    after = replace(
        stream,
        next_link=_without(stream.next_link, subject.id),
        loop_mark=_without(stream.loop_mark, subject.id),
    )
    if after != stream:
        save_stream(tx, stream, after)


def _without(link: str | None, group: str) -> str | None:
    return None if link is None else without_group(link, group)


def _told(tx: Transaction, subject: Subject, taken: TakenOut) -> Pending | None:
    """Tell that it ended, and nothing of what it was; what is to be scrubbed now.

    As with every deletion, whatever pointed at it ends before it.
    """
    if not (subject.known or taken.anything):
        return None
    closing = (RESOURCES[subject.resource], [Change(ChangeKind.DELETED, subject.id)])
    append(tx, [*taken.endings(), closing], run_id=None)
    return Pending(id=subject.id, assignments=[key for key, _ in taken.assignments])
