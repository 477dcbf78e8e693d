"""Serving one sink: read what waits, deliver it, move the positions on; for ever.

Positions move after delivery and never before, so whoever dies in between has the events
delivered again, with the same ids.
"""

import random
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from threading import Event
from typing import Final, TypeVar

from sqlalchemy import Connection

from models.sink import SinkKind
from worker.core.crash import crash_point
from worker.core.errors import Fenced, Gone, Trouble
from worker.core.log import logger
from worker.core.settings import Settings
from worker.events.envelope import Envelopes
from worker.events.reading import read_events
from worker.relay.target import Envelope, Target
from worker.relay.targets import open_target
from worker.store.engine import Database
from worker.store.sinks import (
    Position,
    Sink,
    Waiting,
    advance,
    disable,
    fail,
    release,
    waiting,
)

T = TypeVar("T")

LEASE_SECONDS: Final = 15.0
POLL_SECONDS: Final = 0.25
DATABASE_SECONDS: Final = 2.0
"""Pause after Postgres could not be asked."""
BATCH: Final = {SinkKind.REDIS_STREAM: 1_000, SinkKind.WEBHOOK: 100}
"""Events delivered at once; a webhook takes its time for each."""
ROUND: Final = 8_000
"""Events between two commits of positions; where few connections wait, they share them."""
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


def ahead(pool: Executor, items: Iterator[T]) -> Generator[T, None, None]:
    """The items, each being made while the one before is worked on."""
    coming = pool.submit(next, items, None)
    try:
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item
    finally:
        wait((coming,))


class Delivery:
    """One sink's work, in a thread of its own, until ``ended`` is set or the lease is lost."""

    def __init__(self, database: Database, sink: Sink, settings: Settings, ended: Event) -> None:
        self.sink = sink
        self.ended = ended
        self._database = database
        self._settings = settings
        self._target: Target | None = None
        self._failures = sink.failures
        self._tried = 0
        self._reader = ThreadPoolExecutor(1, f"reader of {sink.name}")
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

    def close(self) -> None:
        self._reader.shutdown()
        if self._target is not None:
            self._target.close()

    def _step(self) -> float:
        """One round; how long to wait before the next."""
        try:
            return 0.0 if self.deliver_round() else POLL_SECONDS
        except Fenced:
            raise
        except Undelivered as fault:
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
        try:
            with closing(ahead(self._reader, self._reads(found))) as reads:
                for events, position in reads:
                    if self.ended.is_set():
                        break
                    self._tried = position.connection_id
                    self._deliver(events)
                    done[position.connection_id] = position
                    count += len(events)
                    if count >= ROUND or (events and self.sink.kind is SinkKind.WEBHOOK):
                        self._advance(done, count)
                        done, count = {}, 0
        finally:
            if done:
                self._advance(done, count)
        return bool(found)

    def _reads(self, found: Sequence[Waiting]) -> Iterator[tuple[list[Envelope], Position]]:
        """What each connection has waiting, in small batches, up to its share of a round.

        It begins behind the connection that was tried last: one that always fails holds up none.
        """
        batch = BATCH[self.sink.kind]
        share = max(1, ROUND // batch // max(1, len(found)))
        for one in sorted(found, key=lambda it: it.position.connection_id <= self._tried):
            position = one.position
            for _ in range(share):
                if position.seq >= one.event_seq:
                    break
                events, position = self._read(one, position, batch)
                yield events, position

    def _read(self, one: Waiting, after: Position, limit: int) -> tuple[list[Envelope], Position]:
        with self._database.begin() as connection:
            told, position = read_events(connection, self.sink, after, limit)
        if position == after:
            # Nothing is left of them: retention has dropped what this sink never had.
            return [], after._replace(seq=one.event_seq)
        owner = after.connection_id
        make = Envelopes(self._settings.event_prefix, owner, one.tenant_id).one
        return [Envelope(make(it), it.event_id, owner, it.seq) for it in told], position

    def _deliver(self, events: Sequence[Envelope]) -> None:
        if not events:
            return
        try:
            if self._target is None:
                self._target = open_target(self.sink, self._settings)
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
