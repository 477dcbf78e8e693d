"""Redact the events about an erased object, batch by batch."""

from collections.abc import Callable
from dataclasses import dataclass, field

from worker.core.process.failpoints import hit_failpoint
from worker.erasure.store.events import (
    BATCH_EVENTS,
    ScrubBatch,
    ScrubStep,
    begin_next_pass,
    choose_next_step,
    read_scrub_batch,
    scrub_batch,
)
from worker.erasure.store.progress import (
    finish_erasure,
    save_progress,
)
from worker.erasure.store.sinks import SinkBehind, list_sinks_behind
from worker.erasure.store.text import has_mentions, redact_texts
from worker.store.engine import Database
from worker.store.lease import interrupt_writer
from worker.store.state.erasures import Erasure, find_erasure, get_digests

OnErasureProgress = Callable[[str, int], None]
"""Called after each batch with the table and how many of its rows are redacted so far."""


@dataclass
class EventRedactor:
    """Redacts the events of an erasure, in short transactions."""

    database: Database
    connection_id: int
    digest: bytes
    on_progress: OnErasureProgress
    batch_size: int = BATCH_EVENTS
    redacted_names: set[str] = field(default_factory=set)
    """Names that have been removed from texts."""
    event_count: int = 0

    def run(self) -> list[SinkBehind]:
        """Redact until done, or until only sinks are waited for; return these."""
        while True:
            with self.database.open_transaction() as db:
                erasure = find_erasure(db, self.connection_id, self.digest)
                if erasure is None or erasure.pending is None or erasure.pending.rows:
                    return []
                behind = list_sinks_behind(db, erasure)
                move = choose_next_step(erasure.pending, erasure.last_seq or 0, waits=bool(behind))
                if move is ScrubStep.WAIT_FOR_SINKS:
                    return behind
                if move is ScrubStep.FINISHED:
                    finish_erasure(db, erasure)
                    return []
                if move is not ScrubStep.NEXT_BATCH:
                    save_progress(db, erasure, begin_next_pass(erasure.pending, move))
                    continue
            self._redact_batch(erasure)

    def _redact_batch(self, erasure: Erasure) -> None:
        with self.database.open_transaction() as db:
            batch = read_scrub_batch(db, erasure, self.batch_size)
        self._redact_texts(batch.collect_names(erasure.resource))
        self._write_batch(batch, erasure)
        hit_failpoint("events-scrubbed")

    def _write_batch(self, batch: ScrubBatch, erasure: Erasure) -> None:
        """Redact a batch, unless another process has meanwhile."""
        with self.database.open_transaction() as db:
            now = find_erasure(db, self.connection_id, self.digest)
            if now != erasure:
                return
            behind = list_sinks_behind(db, erasure)
            floor = min((one.seq for one in behind), default=None)
            after = scrub_batch(db, erasure, batch, get_digests(db), floor)
            save_progress(db, erasure, after)
        self.event_count += len(batch.events)
        self.on_progress("events.change_events", self.event_count)

    def _redact_texts(self, names: set[str]) -> None:
        """Remove the object's former names from texts; fence no run if no text has them."""
        new = names - self.redacted_names
        if not new:
            return
        self.redacted_names |= new
        with self.database.open_transaction() as db:
            named = has_mentions(db, self.connection_id, new)
        if named:
            with interrupt_writer(self.database, self.connection_id) as tx:
                redact_texts(tx, new)
