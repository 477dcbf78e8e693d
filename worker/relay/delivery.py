"""Serving one sink: read what waits, deliver it, move the positions on; for ever.

Positions move after delivery and never before, so whoever dies in between has the events
delivered again, with the same ids.
"""

import math
import random
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from threading import Event
from typing import Final, NamedTuple

from sqlalchemy import Connection

from models.sink import SinkKind
from worker.core.crash import crash_point
from worker.core.errors import Fenced, Gone, Trouble
from worker.core.log import logger
from worker.core.settings import Settings
from worker.events.envelope import Envelopes
from worker.events.reading import read_events
from worker.events.snapshot import read_page
from worker.relay.ahead import DaemonThread, ahead
from worker.relay.target import Envelope, Target
from worker.relay.targets import open_target
from worker.store.engine import Database
from worker.store.epochs import confirm_epoch
from worker.store.sinks import (
    Position,
    Sink,
    Told,
    Waiting,
    advance,
    disable,
    fail,
    release,
    waiting,
)

LEASE_SECONDS: Final = 15.0
POLL_SECONDS: Final = 0.25
DATABASE_SECONDS: Final = 2.0
"""Pause after Postgres could not be asked."""
BATCH: Final = 1_000
"""Events delivered at once."""
REQUESTS: Final = 10
"""Requests to a webhook that are made at once: each takes its time, and a stop waits for them."""
ROUND: Final = 8_000
"""Events between two commits of positions; where few connections wait, they share them."""
ROUND_SECONDS: Final = 5.0
"""After which the connections that wait are looked up anew: a slow sink must hear of new ones."""
TOGETHER: Final = 50
"""Connections that are read in one transaction, if little waits in each."""
LONGEST_PAUSE: Final = 300.0


class Undelivered(Exception):  # noqa: N818 - says what is the case
    """The target did not take a batch."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(str(trouble))
        self.trouble = trouble


def pause(failures: int, after: float | None, chance: float) -> float:
    """Seconds to leave a sink alone after so many failures in a row; ``chance`` is 0 to 1."""
    growing = min(LONGEST_PAUSE, 2.0 ** min(failures - 1, 16))
    return max(after or 0.0, growing) * (1 + chance / 4)


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
    """What is delivered next, and the position behind it."""

    events: list[Envelope]
    position: Position
    is_page: bool = False
    """Of a snapshot; the position is kept at once, so that only one page ever comes twice."""


class Delivery:
    """One sink's work, in a thread of its own, until it is ended or the lease is lost."""

    def __init__(self, database: Database, sink: Sink, settings: Settings, ended: Event) -> None:
        self.sink = sink
        self.ended = ended
        self.round_seconds = ROUND_SECONDS
        self._database = database
        self._settings = settings
        self._target: Target | None = None
        self._failures = sink.failures
        self._tried = 0
        self._latest = math.inf
        self._reader = DaemonThread(f"reader of {sink.name}")
        self._log = logger().bind(sink=sink.name)

    def run(self) -> None:
        """Serve the sink; everything that can go wrong ends in a pause or in giving it back."""
        try:
            while not self.ended.is_set():
                self.ended.wait(self._step())
        except Fenced as trouble:
            self._log.info("left to another relay", reason=str(trouble))
        finally:
            self.close()
            self._give_back()

    def end_by(self, moment: float) -> None:
        """Called from another thread: begin nothing new, and give up at ``moment`` what is in hand.

        ``moment`` is of ``time.monotonic``.
        """
        self._latest = moment
        self.ended.set()
        target = self._target
        if target is not None:
            target.end_by(moment)

    def close(self) -> None:
        self._reader.close()
        if self._target is not None:
            self._target.close()

    def _step(self) -> float:
        """One round; how long to wait before the next."""
        try:
            return 0.0 if self.deliver_round() else POLL_SECONDS
        except Fenced:
            raise
        except Undelivered as fault:
            if self.ended.is_set() and not isinstance(fault.trouble, Gone):
                self._log.info("not delivered before the end", reason=str(fault.trouble))
                return 0.0  # what we cut off ourselves is no failure of the receiver
            return self._failed(fault.trouble)
        except Trouble as trouble:
            self._log.warning("the database is away", reason=str(trouble))
            return max(DATABASE_SECONDS, trouble.after or 0.0) * random.random()
        except Exception as bug:  # noqa: BLE001 - one sink's bug must not end the others
            self._log.exception("a sink is left alone after a bug")
            return self._failed(Trouble(f"a bug of ours: {type(bug).__name__}"))

    def deliver_round(self) -> bool:
        """Some events of each connection that waits; False if none did."""
        with self._database.begin() as connection:
            found = waiting(connection, self.sink)
        done: dict[int, Position] = {}
        count = 0
        until = time.monotonic() + self.round_seconds
        try:
            with closing(ahead(self._reader, self._reads(found))) as reads:
                for events, position, is_page in reads:
                    if self.ended.is_set():
                        break
                    self._tried = position.connection_id
                    self._deliver(events)
                    done[position.connection_id] = position
                    count += len(events)
                    at_once = is_page or self.sink.kind is SinkKind.WEBHOOK
                    if count >= ROUND or (events and at_once):
                        self._advance(done, count)
                        done, count = {}, 0
                    if time.monotonic() > until:
                        break
        finally:
            if done:
                self._advance(done, count)
        return bool(found)

    def _reads(self, found: Sequence[Waiting]) -> Iterator[Read]:
        """What each connection has waiting, in small batches, up to its share of a round.

        It begins behind the connection that was tried last: one that always fails holds up none,
        and neither does one whose snapshot takes many rounds.
        """
        limit = batch_of(self.sink)
        share = max(1, ROUND // limit // max(1, len(found)))
        turns = sorted(found, key=lambda it: it.position.connection_id <= self._tried)
        for some in together(turns, limit):
            if len(some) > 1:
                yield from self._read_tails(some, limit)
            else:
                yield from self._read_on(some[0], limit, share)

    def _read_tails(self, some: Sequence[Waiting], limit: int) -> list[Read]:
        """All that waits in some connections, where that is little."""
        with self._database.begin() as connection:
            found = [
                read_events(connection, self.sink, one.position, limit, initial=one.initial)
                for one in some
            ]
            confirm_epoch(connection, self.sink.epoch)
        return [
            self._ready(one, one.position, *read) for one, read in zip(some, found, strict=True)
        ]

    def _read_on(self, one: Waiting, limit: int, share: int) -> Iterator[Read]:
        """A connection's share of a round, batch by batch: its snapshot first, then its tail."""
        position = one.position
        for _ in range(share):
            if position.snapshot is None and position.seq >= one.event_seq:
                return
            with self._database.begin() as connection:
                if position.snapshot is None:
                    read = read_events(connection, self.sink, position, limit, initial=one.initial)
                else:
                    read = read_page(connection, self.sink, position, limit)
                confirm_epoch(connection, self.sink.epoch)
            ready = self._ready(one, position, *read)
            yield ready
            position = ready.position

    def _ready(
        self, one: Waiting, after: Position, told: Sequence[Told], position: Position
    ) -> Read:
        """Events as they leave."""
        if position == after:
            # Nothing is left of them: retention has dropped what this sink never had.
            return Read([], after._replace(seq=one.event_seq))
        owner = after.connection_id
        make = Envelopes(self._settings.event_prefix, owner, one.tenant_id, self.sink.epoch).one
        events = [Envelope(make(it), it.event_id, owner, it.seq) for it in told]
        return Read(events, position, is_page=after.snapshot is not None)

    def _deliver(self, events: Sequence[Envelope]) -> None:
        if not events:
            return
        try:
            if self._target is None:
                self._target = open_target(self.sink, self._settings)
                self._target.end_by(self._latest)
            self._target.deliver(events)
        except Trouble as trouble:
            raise Undelivered(trouble) from trouble
        crash_point("events-delivered")

    def _advance(self, moved: Mapping[int, Position], count: int) -> None:
        with self._database.begin() as connection:
            advance(
                connection, self.sink, moved.values(), seconds=LEASE_SECONDS, delivered=bool(count)
            )
        if count and self._failures:
            self._log.info("the sink takes events again", failures=self._failures)
            self._failures = 0

    def _failed(self, trouble: Trouble) -> float:
        """Tell the operator; how long to leave the sink alone."""
        reason = str(trouble)
        if isinstance(trouble, Gone):
            self._log.warning("the sink is switched off", reason=reason)
            with self._noting() as connection:
                disable(connection, self.sink, reason=reason)
            self.ended.set()
            return 0.0
        self._failures += 1
        failures, seconds = self._failures, pause(self._failures, trouble.after, random.random())
        self._log.warning("not delivered", failures=failures, seconds=seconds, reason=reason)
        with self._noting() as connection:
            fail(connection, self.sink, failures=failures, seconds=seconds, reason=reason)
        return seconds

    def _give_back(self) -> None:
        with self._noting() as connection:
            release(connection, self.sink)

    @contextmanager
    def _noting(self) -> Iterator[Connection]:
        """A transaction that the work goes on without: the lease lapses by itself."""
        try:
            with self._database.begin() as connection:
                yield connection
        except Trouble as trouble:
            self._log.warning("not noted: the database is away", reason=str(trouble))
