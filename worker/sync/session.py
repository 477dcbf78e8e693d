"""What every step of a slice has at hand: the lease, the run, the way to Graph, the order."""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from operator import itemgetter
from threading import Lock

from models.resource import Resource
from models.unresolved import Part, Unanswered
from worker.core.stopping import is_stopping
from worker.events.ledger import append
from worker.graph.batch import Batcher
from worker.store.change import Change
from worker.store.connections import Known
from worker.store.engine import Database
from worker.store.erasure import Erased
from worker.store.lease import Lease, Transaction, reading, release_with, renew, writing
from worker.store.runs import Run
from worker.store.streams import Tally
from worker.store.unresolved import note_unresolved
from worker.sync.plan import Order
from worker.sync.policy import Policy

Progress = Callable[[str, int, str], None]
"""Told about each committed page: resource, objects so far, what is being done.

Of a wait: no resource, its seconds, and what is waited for.
"""


def silent(_resource: str, _objects: int, _what: str) -> None:
    """Nobody watches."""


@dataclass
class Session:
    """One slice's hold on one connection."""

    database: Database
    lease: Lease
    connection: Known
    run: Run
    batcher: Batcher
    policy: Policy
    order: Order
    began: datetime
    call_seconds: float
    retry_seconds: float
    """Longest pause that is waited in place."""
    by_hand: bool = False
    progress: Progress = silent
    tally: Tally = field(default_factory=Tally)
    started: float = field(default_factory=time.monotonic)
    renewed: float = field(default_factory=time.monotonic)
    renewing: Lock = field(default_factory=Lock)
    quarantined: dict[str, bool] = field(default_factory=dict)
    unresolved: bool = False
    late: set[str] = field(default_factory=set)
    """Streams whose last complete reading, as the slice began, was no measure of beginnings."""
    """Whether there may be parts that Graph does not answer for."""
    erased: Erased = field(default_factory=Erased)
    contested: bool = False
    """Whether another connection has the same tenant."""
    released: bool = False
    """Whether the lease was given back."""
    until: float | None = None
    """When the slice's time is up, on the monotonic clock."""
    is_preempted: Callable[[], bool] = lambda: False
    """Whether others wait for the process; asked on the slice's own thread only."""
    cut_short: set[str] = field(default_factory=set)
    """Streams of which deletions are left for the next slice."""
    jitter: float = field(default_factory=random.random)

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """A fenced write; the lease is renewed from its beginning."""
        renewed = time.monotonic()
        with writing(self.database, self.lease) as tx:
            yield tx
        self.renewed = renewed

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """A look at what only we change."""
        with reading(self.database, self.lease) as tx:
            yield tx

    @contextmanager
    def ending(self) -> Iterator[Transaction]:
        """The last write of a slice, which gives the lease back."""
        with writing(self.database, self.lease) as tx:
            yield tx
            release_with(tx.connection, self.lease)
        self.released = True

    @property
    def moment(self) -> datetime:
        """Now, by the database's clock."""
        return self.began + timedelta(seconds=time.monotonic() - self.started)

    def is_late(self) -> bool:
        """Whether the slice is to end: its time is up, or the worker stops."""
        return is_stopping() or (self.until is not None and time.monotonic() >= self.until)

    def gives_way(self) -> bool:
        """The same, between two steps of the slice's own thread: also where others wait for it."""
        if not self.is_late() and self.is_preempted():
            self.until = time.monotonic()
        return self.is_late()

    def keep_lease(self) -> None:
        """See that the lease outlives the next call, without a heartbeat thread.

        A statement is only sent where the last commit is too long ago; a worker that hangs
        stops renewing and loses the lease. Called before every request, on whatever thread
        sends it. Raises Fenced.
        """
        with self.renewing:
            left = self.lease.seconds - (time.monotonic() - self.renewed)
            if left < self.call_seconds + 10 or left < self.lease.seconds / 2:
                renew(self.database, self.lease)
                self.renewed = time.monotonic()

    def note_unresolved(self, tx: Transaction, parts: Mapping[Part, Unanswered]) -> None:
        """Set parts apart for which Graph does not answer."""
        if not parts:
            return
        parts = {part: why for part, why in parts.items() if part.key not in self.erased}
        note_unresolved(tx, parts)
        self.unresolved = self.unresolved or bool(parts)

    def record(
        self, tx: Transaction, resource: Resource, changes: list[Change], *, initial: bool
    ) -> None:
        """Write the events of some changes and count them."""
        self.record_all(tx, [(resource, changes)], initial=initial)

    def record_all(
        self, tx: Transaction, changes: Sequence[tuple[Resource, list[Change]]], *, initial: bool
    ) -> None:
        """The same for several resources."""
        append(tx, changes, run_id=self.run.id, initial=initial)
        for resource, some in changes:
            counts = self.tally.by_resource.setdefault(resource.name, {})
            for kind, number in Counter(map(itemgetter(0), some)).items():
                name = kind.value
                counts[name] = counts.get(name, 0) + number
                setattr(self.tally, name, getattr(self.tally, name) + number)
