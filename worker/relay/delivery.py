"""Serving one sink: read what waits, deliver it, move the positions on; for ever.

Positions move after delivery and never before, so whoever dies in between has the events
delivered again, with the same ids.
"""

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from threading import Event
from typing import Final

from sqlalchemy import Connection

from models.sink import SinkKind
from worker.core.crash import crash_point
from worker.core.errors import EventRefused, Fenced, Gone, Later, Trouble
from worker.core.log import logger
from worker.core.settings import Settings
from worker.relay.ahead import DaemonThread, ahead
from worker.relay.blame import IN_A_ROW, Blame, refusal_pause
from worker.relay.reading import ROUND, Read, Reader
from worker.relay.target import Envelope, Target
from worker.relay.targets import open_target
from worker.store.engine import Database
from worker.store.refusals import count_refused, refuse
from worker.store.sinks import Position, Sink, advance, disable, fail, release, waiting

LEASE_SECONDS: Final = 15.0
POLL_SECONDS: Final = 0.25
DATABASE_SECONDS: Final = 2.0
"""Pause after Postgres could not be asked."""
ROUND_SECONDS: Final = 5.0
"""After which the connections that wait are looked up anew: a slow sink must hear of new ones."""
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


@dataclass
class _Moved:
    """What one round has come to."""

    alone: bool
    """Only one connection has something to deliver."""
    positions: dict[int, Position] = field(default_factory=dict)
    """Reached, and not kept yet."""
    count: int = 0
    """Events delivered up to them."""
    refused: set[int] = field(default_factory=set)
    """Connections that are left alone for the rest of the round."""


class Delivery:
    """One sink's work, in a thread of its own, until it is ended or the lease is lost."""

    def __init__(
        self,
        database: Database,
        sink: Sink,
        settings: Settings,
        ended: Event,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        """``now`` is the Unix time that requests are signed with."""
        self.sink = sink
        self.ended = ended
        self.round_seconds = ROUND_SECONDS
        self._database = database
        self._settings = settings
        self._now = now
        self._target: Target | None = None
        self._failures = sink.failures
        self._tried = 0
        self._latest = math.inf
        self._blame = Blame()
        self.reader = Reader(database, sink, settings)
        self._thread = DaemonThread(f"reader of {sink.name}")
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
        self._thread.close()
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
        """Some events of each connection that waits; False if none did.

        It begins behind the connection that was tried last: one that always fails holds up none,
        and neither does one whose snapshot takes many rounds.
        """
        with self._database.begin() as connection:
            found = waiting(connection, self.sink)
        turns = sorted(found, key=lambda it: it.position.connection_id <= self._tried)
        moved = _Moved(alone=len(found) == 1)
        until = time.monotonic() + self.round_seconds
        try:
            with closing(ahead(self._thread, self.reader.reads(turns, moved.refused))) as reads:
                for read in reads:
                    if self.ended.is_set():
                        break
                    if read.connection_id not in moved.refused:
                        self._serve(read, moved)
                    if time.monotonic() > until:
                        break
        finally:
            self._advance(moved)
        return bool(found)

    def _serve(self, read: Read, moved: "_Moved") -> None:
        """Deliver a batch, and note where that leads. Raises Undelivered."""
        taken, trouble = self._deliver(read)
        if taken or trouble is None:
            moved.positions[read.connection_id] = read.reached(taken)
            moved.count += taken
        if trouble is not None or moved.count >= ROUND or (taken and self._at_once(read)):
            self._advance(moved)
        if trouble is not None:
            self._set_apart(read, taken, trouble, alone=moved.alone)
            moved.refused.add(read.connection_id)

    def _at_once(self, read: Read) -> bool:
        """Whether positions are kept after each delivery."""
        return read.is_page or self.sink.kind is SinkKind.WEBHOOK

    def _deliver(self, read: Read) -> tuple[int, Trouble | None]:
        """How many events were taken, from the first on, and why not the rest."""
        self._tried = read.connection_id
        taken = 0
        try:
            if self._target is None:
                self._target = open_target(self.sink, self._settings, self._now)
                self._target.end_by(self._latest)
            for part in _parts(read):
                try:
                    self._target.deliver(part)
                finally:
                    taken += self._target.taken
        except Trouble as trouble:
            return taken, trouble
        finally:
            if taken:
                self._blame.delivered(read.connection_id)
        if taken:
            crash_point("events-delivered")
        return taken, None

    def _set_apart(self, read: Read, taken: int, trouble: Trouble, *, alone: bool) -> None:
        """Let only the connection wait. Raises Undelivered where the whole sink has to."""
        owner, event = read.connection_id, read.events[taken]
        failures = read.failures if taken == 0 else 0
        is_of_event = self._blame.is_of_event(
            trouble, event.event_id, owner, was_refused=failures > 0, alone=alone
        )
        if self._target is None or self.ended.is_set() or not is_of_event:
            raise Undelivered(trouble) from trouble
        self._target.forget_failure()
        self._refuse(read.reached(taken), event, failures + 1, trouble)
        if self._blame.refuses_everybody(owner, was_refused=failures > 0):
            problem = f"{trouble.message}; so it was for the last {IN_A_ROW} connections"
            raise Undelivered(Later(problem)) from trouble

    def _refuse(self, position: Position, event: Envelope, failures: int, trouble: Trouble) -> None:
        owner = position.connection_id
        with self._database.begin() as connection:
            others = count_refused(connection, self.sink)
            asked = trouble.after if isinstance(trouble, EventRefused) else None
            seconds = refusal_pause(failures, others, asked, random.random())
            refuse(
                connection,
                self.sink,
                position,
                event_id=event.event_id,
                seconds=seconds,
                reason=trouble.message,
            )
        self._log.warning(
            "an event is refused",
            connection=owner,
            event_id=event.event_id,
            sequence=event.seq,
            failures=failures,
            seconds=round(seconds, 1),
            reason=trouble.message,
        )

    def _advance(self, moved: "_Moved") -> None:
        """Keep the positions that were reached since the last time."""
        if not moved.positions:
            return
        count = moved.count
        with self._database.begin() as connection:
            advance(
                connection,
                self.sink,
                moved.positions.values(),
                seconds=LEASE_SECONDS,
                delivered=count > 0,
            )
        moved.positions, moved.count = {}, 0
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


def _parts(read: Read) -> list[Sequence[Envelope]]:
    """What is handed over at once: an event that was refused goes first and alone."""
    parts = [read.events[:1], read.events[1:]] if read.failures else [read.events]
    return [part for part in parts if part]
