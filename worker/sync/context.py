"""The state that every step of a slice shares: lease, run, Graph client, request."""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from operator import itemgetter
from threading import Lock

from models.counter import CounterName
from models.resource import Resource
from models.unresolved import NoAnswer, Part
from worker.core.counts import Counts
from worker.core.errors import LeaseLost
from worker.core.process.shutdown import is_stopping
from worker.events.append import append_events
from worker.graph.client import GraphClient
from worker.store.engine import Database
from worker.store.lease import (
    Lease,
    Transaction,
    open_read_transaction,
    open_write_transaction,
    release_lease_in,
    renew_lease,
)
from worker.store.mirror.change import Change
from worker.store.state.connections import Connection
from worker.store.state.erasures import ErasedObjects
from worker.store.state.runs import Run, Tally
from worker.store.state.unresolved import note_unresolved
from worker.sync.plan import SyncRequest
from worker.sync.policy import Policy

OnProgress = Callable[[str, int, str], None]
"""Called after each committed page with resource, objects so far, and the current activity.

During a wait: an empty resource, the seconds to wait, and the reason.
"""


def ignore_progress(_resource: str, _objects: int, _what: str) -> None:
    """Ignore the progress of a slice."""


@dataclass
class SliceContext:
    """The state of one slice, which holds the lease of one connection."""

    database: Database
    lease: Lease
    connection: Connection
    run: Run
    client: GraphClient
    policy: Policy
    request: SyncRequest
    started_at: datetime
    counts: Counts
    """Counts of this process that wait for a transaction."""
    call_seconds: float
    retry_seconds: float
    """Longest pause before a retry within the slice."""
    is_foreground: bool = False
    on_progress: OnProgress = ignore_progress
    tally: Tally = field(default_factory=Tally)
    started_monotonic: float = field(default_factory=time.monotonic)
    renewed_monotonic: float = field(default_factory=time.monotonic)
    renewal_lock: Lock = field(default_factory=Lock)
    has_quarantined: dict[str, bool] = field(default_factory=dict)
    has_unresolved: bool = False
    """Whether there may be parts that Graph gave no answer for."""
    unobserved_streams: set[str] = field(default_factory=set)
    """Streams that could not date changes when the slice began (``Stream.can_date_changes``)."""
    erased: ErasedObjects = field(default_factory=ErasedObjects)
    is_tenant_shared: bool = False
    """Whether another connection has the same tenant."""
    is_lease_released: bool = False
    """Whether the lease was released."""
    deadline: float | None = None
    """When the slice's time is up, on the monotonic clock."""
    is_preempted: Callable[[], bool] = lambda: False
    """Whether other work waits for the process; called on the slice's own thread only."""
    unfinished_streams: set[str] = field(default_factory=set)
    """Streams that leave deletions for the next slice."""
    jitter: float = field(default_factory=random.random)

    @contextmanager
    def open_transaction(self) -> Iterator[Transaction]:
        """Open a fenced write transaction; a commit renews the lease from its start."""
        renewed = time.monotonic()
        with self._count_fenced(), open_write_transaction(self.database, self.lease) as tx:
            yield tx
        self.renewed_monotonic = renewed

    @contextmanager
    def open_read_transaction(self) -> Iterator[Transaction]:
        """Open a transaction that reads data which only the lease holder changes."""
        with open_read_transaction(self.database, self.lease) as tx:
            yield tx

    @contextmanager
    def open_final_transaction(self) -> Iterator[Transaction]:
        """Open the last write transaction of a slice, which releases the lease.

        It also stores the counts of this process that no transaction has taken along.
        """
        with (
            self._count_fenced(),
            self.counts.hand_over() as pending,
            open_write_transaction(self.database, self.lease) as tx,
        ):
            tx.counts.add_all(pending)
            yield tx
            release_lease_in(tx.db, self.lease)
        self.is_lease_released = True

    @contextmanager
    def _count_fenced(self) -> Iterator[None]:
        try:
            yield
        except LeaseLost:
            self.counts.add(CounterName.FENCED_WRITES)
            raise

    @property
    def now(self) -> datetime:
        """The current time, by the database's clock."""
        return self.started_at + timedelta(seconds=time.monotonic() - self.started_monotonic)

    def is_time_up(self) -> bool:
        """Whether the slice must end: its time is up, or the worker stops."""
        return is_stopping() or (self.deadline is not None and time.monotonic() >= self.deadline)

    def should_stop(self) -> bool:
        """Whether the slice must end because its time is up or other work waits for the process.

        Called between two steps, on the slice's own thread only.
        """
        if not self.is_time_up() and self.is_preempted():
            self.deadline = time.monotonic()
        return self.is_time_up()

    def ensure_lease(self) -> None:
        """Renew the lease if it might expire during the next call.

        Replaces a heartbeat thread: a worker that hangs stops renewing and loses the lease. Sends a
        statement only if the last commit is too long ago. Called before every request, on the
        thread that sends it. Raises LeaseLost.
        """
        with self.renewal_lock:
            left = self.lease.seconds - (time.monotonic() - self.renewed_monotonic)
            if left < self.call_seconds + 10 or left < self.lease.seconds / 2:
                renew_lease(self.database, self.lease)
                self.renewed_monotonic = time.monotonic()

    def save_unresolved(self, tx: Transaction, parts: Mapping[Part, NoAnswer]) -> None:
        """Record the parts that Graph gave no answer for."""
        if not parts:
            return
        parts = {part: why for part, why in parts.items() if part.key not in self.erased}
        note_unresolved(tx, parts)
        self.has_unresolved = self.has_unresolved or bool(parts)

    def append_events(
        self, tx: Transaction, resource: Resource, changes: list[Change], *, is_initial: bool
    ) -> None:
        """Append the events of a resource's changes and count them."""
        self.append_all_events(tx, [(resource, changes)], initial=is_initial)

    def append_all_events(
        self, tx: Transaction, changes: Sequence[tuple[Resource, list[Change]]], *, initial: bool
    ) -> None:
        """Append the events of several resources' changes and count them."""
        append_events(tx, changes, run_id=self.run.id, initial=initial)
        for resource, some in changes:
            counts = self.tally.by_resource.setdefault(resource.name, {})
            for kind, number in Counter(map(itemgetter(0), some)).items():
                name = kind.value
                counts[name] = counts.get(name, 0) + number
                setattr(self.tally, name, getattr(self.tally, name) + number)
