"""What a sink is handed next: batches of one connection each, read ahead of their delivery."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from models.resources import RESOURCES
from models.sink import SinkKind
from worker.core.settings import Settings
from worker.events.envelope import Envelopes
from worker.events.reading import read_events
from worker.events.snapshot import read_page
from worker.relay.target import Envelope
from worker.store.engine import Database
from worker.store.epochs import confirm_epoch
from worker.store.sinks import Position, Sink, Told, Waiting

BATCH: Final = 1_000
"""Events delivered at once."""
REQUESTS: Final = 10
"""Requests to a webhook that are made at once: each takes its time, and a stop waits for them."""
ROUND: Final = 8_000
"""Events between two commits of positions; where few connections wait, they share them."""
TOGETHER: Final = 50
"""Connections that are read in one transaction, if little waits in each."""


def batch_of(sink: Sink) -> int:
    """How many events a sink is handed at once."""
    if sink.kind is SinkKind.REDIS_STREAM:
        return BATCH
    size = sink.settings.get("batch")
    return REQUESTS * (size if isinstance(size, int) and size > 0 else 1)


def together(found: Iterable[Waiting], limit: int) -> Iterator[list[Waiting]]:
    """The connections, in order: side by side as long as all that waits in them is one batch."""
    some: list[Waiting] = []
    room = limit
    for one in found:
        is_snapshot = one.position.snapshot is not None
        size = limit if is_snapshot else one.event_seq - one.position.seq
        if some and (size > room or len(some) == TOGETHER):
            yield some
            some, room = [], limit
        some.append(one)
        room -= size
    if some:
        yield some


class Read(NamedTuple):
    """What is delivered next, and the positions before and behind it."""

    events: list[Envelope]
    told: Sequence[Told]
    before: Position
    behind: Position
    failures: int = 0
    """How often in a row the receiver refused the first of them."""

    @property
    def connection_id(self) -> int:
        return self.before.connection_id

    @property
    def is_page(self) -> bool:
        """Of a snapshot; the position is kept at once, so that only one page ever comes twice."""
        return self.before.snapshot is not None

    def reached(self, taken: int) -> Position:
        """The position once so many of the events are delivered, from the first on."""
        if taken >= len(self.told):
            return self.behind
        return behind(self.before, self.told[:taken])


def behind(before: Position, delivered: Sequence[Told]) -> Position:
    """The position behind the first of some events that were read at another position.

    What a snapshot begins and ends with besides its rows is alone or last, and so never between.
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


class Reader:
    """Reads for one sink."""

    def __init__(self, database: Database, sink: Sink, settings: Settings) -> None:
        self._database = database
        self._sink = sink
        self._prefix = settings.event_prefix
        self._limit = batch_of(sink)

    def reads(self, turns: Sequence[Waiting], left_alone: Iterable[int]) -> Iterator[Read]:
        """What each connection has waiting, in small batches, up to its share of a round.

        ``left_alone`` is looked at meanwhile: of those connections nothing more is read.
        """
        share = max(1, ROUND // self._limit // max(1, len(turns)))
        for some in together(turns, self._limit):
            if len(some) > 1:
                yield from self._tails(some)
            else:
                yield from self._on(some[0], share, left_alone)

    def _tails(self, some: Sequence[Waiting]) -> list[Read]:
        """All that waits in some connections, where that is little."""
        with self._database.begin() as connection:
            found = [
                read_events(connection, self._sink, one.position, self._limit, initial=one.initial)
                for one in some
            ]
            confirm_epoch(connection, self._sink.epoch)
        return [
            self._ready(one, one.position, *read) for one, read in zip(some, found, strict=True)
        ]

    def _on(self, one: Waiting, share: int, left_alone: Iterable[int]) -> Iterator[Read]:
        """A connection's share of a round, batch by batch: its snapshot first, then its tail."""
        position = one.position
        for _ in range(share):
            if position.snapshot is None and position.seq >= one.event_seq:
                return
            if position.connection_id in left_alone:
                return
            with self._database.begin() as connection:
                if position.snapshot is None:
                    read = read_events(
                        connection, self._sink, position, self._limit, initial=one.initial
                    )
                else:
                    read = read_page(connection, self._sink, position, self._limit)
                confirm_epoch(connection, self._sink.epoch)
            ready = self._ready(one, position, *read)
            yield ready
            position = ready.behind

    def _ready(
        self, one: Waiting, before: Position, told: Sequence[Told], position: Position
    ) -> Read:
        """Events as they leave."""
        if position == before:
            # Nothing is left of them: retention has dropped what this sink never had.
            return Read([], [], before, before._replace(seq=one.event_seq))
        owner = before.connection_id
        make = Envelopes(self._prefix, owner, one.tenant_id, self._sink.epoch).one
        events = [Envelope(make(it), it.event_id, owner, it.seq) for it in told]
        failures = one.failures if before == one.position else 0
        return Read(events, told, before, position, failures)
