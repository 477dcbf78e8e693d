"""Read a sink's next batches, of one connection each, ahead of their delivery."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from models.resources import RESOURCES
from models.sink import SinkKind
from worker.core.settings import Settings
from worker.delivery.senders.sender import Envelope
from worker.delivery.store.read import read_sink_events
from worker.delivery.store.sinks import Backlog, Sink
from worker.delivery.store.snapshot import read_snapshot_page
from worker.events.envelope import EnvelopeBuilder
from worker.events.epochs import confirm_epoch
from worker.events.event import Event, Position
from worker.store.engine import Database

REDIS_BATCH_EVENTS: Final = 1_000
"""Events in a batch for Redis."""
WEBHOOK_BATCH_REQUESTS: Final = 10
"""Requests in a batch for a webhook: each takes time, and a stop waits for them."""
ROUND_EVENTS: Final = 8_000
"""Events between two commits of positions; the connections of a round share them."""
MAX_GROUPED_CONNECTIONS: Final = 50
"""Connections that are read in one transaction if each has a small backlog."""


def choose_batch_size(sink: Sink) -> int:
    """Return how many events a sink gets in one batch."""
    if sink.kind is SinkKind.REDIS_STREAM:
        return REDIS_BATCH_EVENTS
    size = sink.settings.get("batch")
    return WEBHOOK_BATCH_REQUESTS * (size if isinstance(size, int) and size > 0 else 1)


def group_backlogs(backlogs: Iterable[Backlog], limit: int) -> Iterator[list[Backlog]]:
    """Yield the connections in order, in groups whose whole backlog is at most one batch."""
    some: list[Backlog] = []
    room = limit
    for one in backlogs:
        is_snapshot = one.position.snapshot is not None
        size = limit if is_snapshot else one.event_seq - one.position.seq
        if some and (size > room or len(some) == MAX_GROUPED_CONNECTIONS):
            yield some
            some, room = [], limit
        some.append(one)
        room -= size
    if some:
        yield some


class SinkBatch(NamedTuple):
    """The next events to deliver, and the positions before and after them."""

    envelopes: list[Envelope]
    events: Sequence[Event]
    start: Position
    end: Position
    failures: int = 0
    """How often in a row the receiver refused the first event."""

    @property
    def connection_id(self) -> int:
        return self.start.connection_id

    @property
    def is_snapshot_page(self) -> bool:
        """Whether it is of a snapshot, whose position is saved after each page."""
        return self.start.snapshot is not None

    def compute_position(self, delivered_count: int) -> Position:
        """Return the position after the first ``delivered_count`` events."""
        if delivered_count >= len(self.events):
            return self.end
        return compute_position_after(self.start, self.events[:delivered_count])


def compute_position_after(before: Position, delivered: Sequence[Event]) -> Position:
    """Return the position after ``delivered`` events that were read at ``before``.

    The begin and end events of a snapshot are alone or last in their batch, so no position falls
    between.
    """
    if not delivered:
        return before
    last = delivered[-1]
    if before.snapshot is None:
        return before._replace(seq=last.seq, occurred_at=last.occurred_at)
    key = tuple(last.object_id.split("/", len(RESOURCES[last.resource].key) - 1))
    rows = before.snapshot.rows + len(delivered)
    reached = before.snapshot._replace(resource=last.resource, after=key, rows=rows)
    return before._replace(snapshot=reached)


class BatchReader:
    """Reads batches for one sink."""

    def __init__(self, database: Database, sink: Sink, settings: Settings) -> None:
        self._database = database
        self._sink = sink
        self._prefix = settings.event_prefix
        self._limit = choose_batch_size(sink)

    def read_batches(
        self, turns: Sequence[Backlog], excluded: Iterable[int]
    ) -> Iterator[SinkBatch]:
        """Yield each connection's backlog in small batches, up to its share of a round.

        ``excluded`` may grow meanwhile: nothing more is read of those connections.
        """
        share = max(1, ROUND_EVENTS // self._limit // max(1, len(turns)))
        for some in group_backlogs(turns, self._limit):
            if len(some) > 1:
                yield from self._read_tails(some)
            else:
                yield from self._read_connection(some[0], share, excluded)

    def _read_tails(self, some: Sequence[Backlog]) -> list[SinkBatch]:
        """Read the whole backlog of some connections, if it is small."""
        with self._database.open_transaction() as db:
            found = [
                read_sink_events(
                    db, self._sink, one.position, self._limit, initial=one.allows_initial
                )
                for one in some
            ]
            confirm_epoch(db, self._sink.epoch)
        return [
            self._build_batch(one, one.position, *read)
            for one, read in zip(some, found, strict=True)
        ]

    def _read_connection(
        self, one: Backlog, share: int, left_alone: Iterable[int]
    ) -> Iterator[SinkBatch]:
        """Yield a connection's share of a round, by batch: its snapshot first, then its tail."""
        position = one.position
        for _ in range(share):
            if position.snapshot is None and position.seq >= one.event_seq:
                return
            if position.connection_id in left_alone:
                return
            with self._database.open_transaction() as db:
                if position.snapshot is None:
                    read = read_sink_events(
                        db, self._sink, position, self._limit, initial=one.allows_initial
                    )
                else:
                    read = read_snapshot_page(db, self._sink, position, self._limit)
                confirm_epoch(db, self._sink.epoch)
            ready = self._build_batch(one, position, *read)
            yield ready
            position = ready.end

    def _build_batch(
        self, one: Backlog, before: Position, events_read: Sequence[Event], position: Position
    ) -> SinkBatch:
        """Return the events as envelopes, with their positions."""
        if position == before:
            # Retention has dropped the events before this sink got them.
            return SinkBatch([], [], before, before._replace(seq=one.event_seq))
        owner = before.connection_id
        make = EnvelopeBuilder(self._prefix, owner, one.tenant_id, self._sink.epoch).build
        events = [Envelope(make(it), it.event_id, owner, it.seq) for it in events_read]
        failures = one.failures if before == one.position else 0
        return SinkBatch(events, events_read, before, position, failures)
