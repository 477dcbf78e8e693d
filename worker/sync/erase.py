"""Erasing an object for good: what it was goes, that it was there stays, and it stays away.

First its memberships go, batch by batch where there are many, and a digest is remembered that
keeps syncs from bringing it back. Then, in one transaction, its row and what our bookkeeping has
of it go, and the end is told. Then its events are scrubbed, batch by batch. After an interruption
the work goes on where it was. Deletions keep their keys until every sink has had them: a receiver
has to know whom to delete.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from models.resources import RESOURCES
from worker.core.crash import crash_point
from worker.core.errors import Refused, Unknown
from worker.core.log import logger
from worker.events.scrub import BATCH, Batch, Move, next_move, read_batch, turned, write_batch
from worker.store.connections import IN_USE, get, request_resync
from worker.store.engine import Database
from worker.store.erasure import (
    Behind,
    Erasure,
    digests,
    find_erasure,
    finish_erasure,
    remove_erasure,
    rows_left,
    save_pending,
    sinks_behind,
    touched,
    unfinished,
)
from worker.store.free_text import mentions, scrub_texts
from worker.store.lease import Transaction, interrupting
from worker.store.namesakes import personal_sites, same_elsewhere
from worker.sync.erase_rows import Done, take_rows
from worker.sync.subject import Subject

Told = Callable[[str, int], None]
"""Told about each batch: the table, and how many of its rows have been scrubbed so far."""


def erase(database: Database, subject: Subject, told: Told, *, batch: int = BATCH) -> Done:
    """Erase an object, or go on with it. Raises Unknown where there is no such connection."""
    done = take_rows(database, subject)
    crash_point("erasure-begun")
    go_on(database, subject, done, told, batch=batch)
    return done


def go_on(
    database: Database, subject: Subject, done: Done, told: Told, *, batch: int = BATCH
) -> list[Behind]:
    """Scrub what is left of an erasure; the sinks that are still waited for."""
    with database.begin() as connection:
        digest = digests(connection).of(subject.id)
    scrubbing = Scrubbing(database, subject.connection_id, digest, told, batch, done.names)
    done.waits = scrubbing.run()
    if scrubbing.events:
        done.rows["events.change_events"] = scrubbing.events
    return done.waits


@dataclass
class Scrubbing:
    """Takes an erasure's events to their end, in short transactions."""

    database: Database
    connection_id: int
    digest: bytes
    told: Told
    batch: int = BATCH
    names: set[str] = field(default_factory=set)
    """What sentences have been rid of."""
    events: int = 0

    def run(self) -> list[Behind]:
        """Until the end, or until only sinks are waited for: those."""
        while True:
            with self.database.begin() as connection:
                erasure = find_erasure(connection, self.connection_id, self.digest)
                if erasure is None or erasure.pending is None or erasure.pending.rows:
                    return []
                behind = sinks_behind(connection, erasure)
                move = next_move(erasure.pending, erasure.last_seq or 0, waits=bool(behind))
                if move is Move.WAIT:
                    return behind
                if move is Move.END:
                    finish_erasure(connection, erasure)
                    return []
                if move is not Move.LOOK:
                    save_pending(connection, erasure, turned(erasure.pending, move))
                    continue
            self._scrub(erasure)

    def _scrub(self, erasure: Erasure) -> None:
        with self.database.begin() as connection:
            batch = read_batch(connection, erasure, self.batch)
        self._scrub_texts(batch.names(erasure.resource))
        self._write(batch, erasure)
        crash_point("events-scrubbed")

    def _write(self, batch: Batch, erasure: Erasure) -> None:
        """Scrub a batch, unless somebody else has meanwhile."""
        with self.database.begin() as connection:
            now = find_erasure(connection, self.connection_id, self.digest)
            if now != erasure:
                return
            behind = sinks_behind(connection, erasure)
            floor = min((one.seq for one in behind), default=None)
            after = write_batch(connection, erasure, batch, digests(connection), floor)
            save_pending(connection, erasure, after)
        self.events += len(batch.found)
        self.told("events.change_events", self.events)

    def _scrub_texts(self, names: set[str]) -> None:
        """Take out what the object was called once; nobody is fenced where nothing names it."""
        new = names - self.names
        if not new:
            return
        self.names |= new
        with self.database.begin() as connection:
            named = mentions(connection, self.connection_id, new)
        if named:
            with interrupting(self.database, self.connection_id) as tx:
                scrub_texts(tx, new)


def finish_erasures(database: Database) -> int:
    """Go on with every erasure that was interrupted or waited for a sink; how many events."""
    with database.begin() as connection:
        found = unfinished(connection)
    events = 0
    for connection_id, digest in found:
        _finish_rows(database, connection_id, digest)
        scrubbing = Scrubbing(database, connection_id, digest, lambda _table, _rows: None)
        waits = scrubbing.run()
        events += scrubbing.events
        if waits:
            logger().warning(
                "an erasure waits for sinks that have not had it",
                connection=connection_id,
                sinks=[one.name for one in waits],
            )
    return events


def _finish_rows(database: Database, connection_id: int, digest: bytes) -> None:
    """Delete what an interrupted erasure has left of its object's rows."""
    with database.begin() as connection:
        erasure = rows_left(connection, connection_id, digest)
    if erasure and erasure.pending:
        take_rows(database, Subject(connection_id, erasure.resource, erasure.pending.id))


def also(database: Database, subject: Subject, done: Done) -> list[tuple[int, str, str]]:
    """What may also be about the same person: connection, resource and id.

    Personal sites of a user, and rows that other connections of the tenant have of the object.
    """
    number, resource = subject.connection_id, subject.resource
    with database.begin() as connection:
        others = same_elsewhere(connection, number, resource, subject.id)
        sites = personal_sites(connection, number, done.names) if resource == "users" else []
    return [
        *((number, "sites", site) for site in sites),
        *((other, resource, subject.id) for other in others),
    ]


def lift(database: Database, connection_id: int, digest: bytes) -> Erasure:
    """Let an erased object come back with the next full walk, which is asked for.

    Raises Unknown where it is not erased, Refused while its erasure is under way.
    """
    with interrupting(database, connection_id) as tx:
        known = get(tx.connection, connection_id)
        erasure = find_erasure(tx.connection, connection_id, digest)
        if erasure is None:
            raise Unknown(
                "there is no such erasure; 'tenant-mirror erase CONNECTION --list' shows them all",
                connection=known.label,
            )
        if erasure.pending is not None:
            still = f"{erasure.mark} is not scrubbed yet: {_still(tx, erasure)}"
            raise Refused(still, connection=known.label)
        remove_erasure(tx, erasure)
        if known.status in IN_USE:
            wanted = [name for name in touched(erasure.resource) if not RESOURCES[name].parent]
            request_resync(tx.connection, connection_id, wanted, full=True)
    return erasure


def _still(tx: Transaction, erasure: Erasure) -> str:
    behind = sinks_behind(tx.connection, erasure)
    if not behind:
        return "'tenant-mirror erase CONNECTION OBJECT' goes on with it"
    names = ", ".join(f"'{one.name}' ({one.status})" for one in behind)
    return f"wait until sink {names} has had the deletion, or remove the sink"
