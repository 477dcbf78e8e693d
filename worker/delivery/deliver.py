"""Serve one sink: read its backlog, deliver it and advance the positions, in a loop.

Positions advance only after delivery, so after a crash in between, events are delivered again, with
the same ids.
"""

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from threading import Event
from typing import Final

import sqlalchemy as sa

from models.sink import SinkKind
from worker.core.errors import EventRefused, LeaseLost, MirrorError, RetryLater, SinkGone
from worker.core.log import get_logger
from worker.core.process.failpoints import hit_failpoint
from worker.core.settings import Settings
from worker.delivery.batch_reader import ROUND_EVENTS, BatchReader, SinkBatch
from worker.delivery.failure_tracker import (
    MAX_NEW_REFUSALS,
    FailureTracker,
    compute_refusal_backoff,
)
from worker.delivery.prefetch import DaemonThread, prefetch
from worker.delivery.senders.open_sender import open_sender
from worker.delivery.senders.sender import Envelope, EventSender
from worker.delivery.store.refusals import count_refusals, record_refusal
from worker.delivery.store.sinks import (
    Sink,
    advance_positions,
    disable_sink,
    list_backlogs,
    record_sink_failure,
    release_sink,
)
from worker.events.event import Position
from worker.store.engine import Database

LEASE_SECONDS: Final = 15.0
POLL_SECONDS: Final = 0.25
DATABASE_RETRY_SECONDS: Final = 2.0
"""Seconds to pause after Postgres was unavailable."""
ROUND_SECONDS: Final = 5.0
"""Seconds after which the backlogs are listed again: a slow sink must include new ones."""
MAX_BACKOFF_SECONDS: Final = 300.0


class DeliveryAborted(Exception):
    """The sink did not take a batch."""

    def __init__(self, error: MirrorError) -> None:
        super().__init__(str(error))
        self.error = error


def compute_backoff(failures: int, after: float | None, chance: float) -> float:
    """Return the seconds to pause a sink after failures in a row; ``chance`` is 0 to 1."""
    growing = min(MAX_BACKOFF_SECONDS, 2.0 ** min(failures - 1, 16))
    return max(after or 0.0, growing) * (1 + chance / 4)


@dataclass
class _RoundProgress:
    """The progress of one round."""

    is_only_connection: bool
    """Whether only one connection has a backlog."""
    positions: dict[int, Position] = field(default_factory=dict)
    """Positions reached and not saved yet."""
    event_count: int = 0
    """Events delivered up to these positions."""
    excluded: set[int] = field(default_factory=set)
    """Connections that are skipped for the rest of the round."""


class Delivery:
    """Serves one sink in its own thread, until it is stopped or the lease is lost."""

    def __init__(
        self,
        database: Database,
        sink: Sink,
        settings: Settings,
        stop: Event,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        """``now`` returns the Unix time to sign requests with."""
        self.sink = sink
        self.stop = stop
        self.round_seconds = ROUND_SECONDS
        self._database = database
        self._settings = settings
        self._now = now
        self._sender: EventSender | None = None
        self._failures = sink.failures
        self._last_connection_id = 0
        self._deadline = math.inf
        self._failure_tracker = FailureTracker()
        self.reader = BatchReader(database, sink, settings)
        self._reader_thread = DaemonThread(f"reader of {sink.name}")
        self._log = get_logger().bind(sink=sink.name)

    def run(self) -> None:
        """Serve the sink; every error ends in a pause or in giving up the lease."""
        try:
            while not self.stop.is_set():
                self.stop.wait(self._run_round())
        except LeaseLost as error:
            self._log.info("sink lease held by another relay", reason=str(error))
        finally:
            self.close()
            self._release_lease()

    def stop_by(self, moment: float) -> None:
        """Start nothing new, and abort the request under way at ``moment``.

        Called from another thread; ``moment`` is of ``time.monotonic``.
        """
        self._deadline = moment
        self.stop.set()
        target = self._sender
        if target is not None:
            target.set_deadline(moment)

    def close(self) -> None:
        self._reader_thread.close()
        if self._sender is not None:
            self._sender.close()

    def _run_round(self) -> float:
        """Run one round; return the seconds to wait before the next."""
        try:
            return 0.0 if self.deliver_round() else POLL_SECONDS
        except LeaseLost:
            raise
        except DeliveryAborted as error:
            if self.stop.is_set() and not isinstance(error.error, SinkGone):
                self._log.info("delivery interrupted by shutdown", reason=str(error.error))
                return 0.0  # an abort by this process is no failure of the receiver
            return self._record_failure(error.error)
        except MirrorError as error:
            self._log.warning("database unavailable", reason=str(error))
            return max(DATABASE_RETRY_SECONDS, error.after or 0.0) * random.random()
        except Exception as bug:  # noqa: BLE001 - one sink's bug must not end the others
            self._log.exception("delivery failed with an unexpected error")
            return self._record_failure(MirrorError(_describe_bug(bug)))

    def deliver_round(self) -> bool:
        """Deliver some events of each connection with a backlog; False if there is none.

        Begins after the connection that was tried last: neither one that always fails nor one whose
        snapshot takes many rounds delays the others.
        """
        with self._database.open_transaction() as db:
            found = list_backlogs(db, self.sink)
        turns = sorted(found, key=lambda it: it.position.connection_id <= self._last_connection_id)
        moved = _RoundProgress(is_only_connection=len(found) == 1)
        until = time.monotonic() + self.round_seconds
        try:
            with closing(
                prefetch(self._reader_thread, self.reader.read_batches(turns, moved.excluded))
            ) as reads:
                for read in reads:
                    if self.stop.is_set():
                        break
                    if read.connection_id not in moved.excluded:
                        self._deliver_batch(read, moved)
                    if time.monotonic() > until:
                        break
        finally:
            self._save_positions(moved)
        return bool(found)

    def _deliver_batch(self, read: SinkBatch, moved: "_RoundProgress") -> None:
        """Deliver a batch and record its position. Raises DeliveryAborted."""
        taken, error = self._send(read)
        if taken or error is None:
            moved.positions[read.connection_id] = read.compute_position(taken)
            moved.event_count += taken
        if (
            error is not None
            or moved.event_count >= ROUND_EVENTS
            or (taken and self._saves_each_batch(read))
        ):
            self._save_positions(moved)
        if error is not None:
            self._isolate_event(read, taken, error, alone=moved.is_only_connection)
            moved.excluded.add(read.connection_id)

    def _saves_each_batch(self, read: SinkBatch) -> bool:
        """Whether positions are saved after each batch."""
        return read.is_snapshot_page or self.sink.kind is SinkKind.WEBHOOK

    def _send(self, read: SinkBatch) -> tuple[int, MirrorError | None]:
        """Send a batch; return how many events were taken, and the error for the rest."""
        self._last_connection_id = read.connection_id
        taken = 0
        try:
            if self._sender is None:
                self._sender = open_sender(self.sink, self._settings, self._now)
                self._sender.set_deadline(self._deadline)
            for part in _split_batch(read):
                try:
                    self._sender.send(part)
                finally:
                    taken += self._sender.sent_count
        except MirrorError as error:
            return taken, error
        finally:
            if taken:
                self._failure_tracker.record_delivered(read.connection_id)
        if taken:
            hit_failpoint("events-delivered")
        return taken, None

    def _isolate_event(
        self, read: SinkBatch, taken: int, error: MirrorError, *, alone: bool
    ) -> None:
        """Pause only the connection. Raises DeliveryAborted if the whole sink has to wait."""
        owner, event = read.connection_id, read.envelopes[taken]
        failures = read.failures if taken == 0 else 0
        is_of_event = self._failure_tracker.is_event_at_fault(
            error, event.event_id, owner, was_refused=failures > 0, is_only_connection=alone
        )
        if self._sender is None or self.stop.is_set() or not is_of_event:
            raise DeliveryAborted(error) from error
        self._sender.forget_failure()
        self._record_refusal(read.compute_position(taken), event, failures + 1, error)
        if self._failure_tracker.is_receiver_at_fault(owner, was_refused=failures > 0):
            problem = (
                f"{error.message}; the last {MAX_NEW_REFUSALS} connections failed in the same way"
            )
            raise DeliveryAborted(RetryLater(problem)) from error

    def _record_refusal(
        self, position: Position, event: Envelope, failures: int, error: MirrorError
    ) -> None:
        owner = position.connection_id
        with self._database.open_transaction() as db:
            others = count_refusals(db, self.sink)
            asked = error.after if isinstance(error, EventRefused) else None
            seconds = compute_refusal_backoff(failures, others, asked, random.random())
            record_refusal(
                db,
                self.sink,
                position,
                event_id=event.event_id,
                seconds=seconds,
                reason=error.message,
            )
        self._log.warning(
            "event refused",
            connection_id=owner,
            event_id=event.event_id,
            sequence=event.seq,
            failures=failures,
            retry_in_seconds=round(seconds, 1),
            reason=error.message,
        )

    def _save_positions(self, moved: "_RoundProgress") -> None:
        """Save the positions that were reached since the last save."""
        if not moved.positions:
            return
        count = moved.event_count
        with self._database.open_transaction() as db:
            advance_positions(
                db,
                self.sink,
                moved.positions.values(),
                seconds=LEASE_SECONDS,
                delivered=count > 0,
            )
        moved.positions, moved.event_count = {}, 0
        if count and self._failures:
            self._log.info("sink recovered", failures=self._failures)
            self._failures = 0

    def _record_failure(self, error: MirrorError) -> float:
        """Record the failure for the operator; return the seconds to pause the sink."""
        reason = str(error)
        if isinstance(error, SinkGone):
            self._log.warning("sink disabled", reason=reason)
            with self._open_optional_transaction() as db:
                disable_sink(db, self.sink, reason=reason)
            self.stop.set()
            return 0.0
        self._failures += 1
        failures, seconds = (
            self._failures,
            compute_backoff(self._failures, error.after, random.random()),
        )
        self._log.warning(
            "delivery failed",
            failures=failures,
            retry_in_seconds=round(seconds, 1),
            reason=reason,
        )
        with self._open_optional_transaction() as db:
            record_sink_failure(db, self.sink, failures=failures, seconds=seconds, reason=reason)
        return seconds

    def _release_lease(self) -> None:
        with self._open_optional_transaction() as db:
            release_sink(db, self.sink)

    @contextmanager
    def _open_optional_transaction(self) -> Iterator[sa.Connection]:
        """Open a transaction whose failure is only logged: the lease expires by itself."""
        try:
            with self._database.open_transaction() as db:
                yield db
        except MirrorError as error:
            self._log.warning("sink state not saved: database unavailable", reason=str(error))


def _describe_bug(bug: Exception) -> str:
    """Return the text that is stored and shown, without the message: it may hold personal data."""
    return f"internal error of Tenant Mirror ({type(bug).__name__}); see the relay's log"


def _split_batch(read: SinkBatch) -> list[Sequence[Envelope]]:
    """Split a batch for sending: an event that was refused before goes first and alone."""
    parts = [read.envelopes[:1], read.envelopes[1:]] if read.failures else [read.envelopes]
    return [part for part in parts if part]
