"""The relay: claims sinks, serves each in a thread, and keeps their leases.

Several relays share the sinks among them; when one dies, its sinks go to the others once their
leases have lapsed.
"""

import time
from contextlib import suppress
from dataclasses import dataclass
from threading import Event, Thread
from typing import Final

from worker.core import heartbeat
from worker.core.errors import Trouble
from worker.core.log import logger
from worker.core.settings import Settings
from worker.events.rewind import follow_server
from worker.relay.delivery import LEASE_SECONDS, Delivery
from worker.store.engine import Database
from worker.store.host_clocks import ClockReport
from worker.store.lease import me
from worker.store.sinks import claim, renew

LOOK_SECONDS: Final = 1.0
RENEW_SECONDS: Final = 4.0
JOIN_SECONDS: Final = 0.5
MOST_SINKS: Final = 16
"""Sinks of one relay."""
POOL_SIZE: Final = 2 * MOST_SINKS + 1
"""Connections to Postgres, at most: a sink reads on while it commits where it is."""
GRACE_SECONDS: Final = 4.0
"""What is in hand has so long to be delivered once the relay is stopped; then it is given up, and
delivered again by who serves the sink next."""
END_SECONDS: Final = 7.0
"""After which a stopped relay has ended, whatever its sinks or Postgres do."""
AT_ONCE: Final = 2
"""Sinks claimed at one look, so that relays that start together share them."""


@dataclass(frozen=True)
class _Serving:
    delivery: Delivery
    thread: Thread


class Relay:
    """All that one process serves."""

    def __init__(
        self, database: Database, settings: Settings, *, renew_seconds: float = RENEW_SECONDS
    ) -> None:
        self._database = database
        self._settings = settings
        self._renew_seconds = renew_seconds
        self._serving: list[_Serving] = []
        self._renewed = 0.0
        self._clock = ClockReport()

    def run(self, stop: Event) -> None:
        """Serve sinks until told to stop; requests under way have a grace to be finished."""
        try:
            while not stop.is_set():
                try:
                    self._look()
                except Trouble as trouble:
                    logger().warning("sinks cannot be looked after", reason=str(trouble))
                heartbeat.note("relay")
                stop.wait(min(LOOK_SECONDS, self._renew_seconds))
        finally:
            self._end()

    def _look(self) -> None:
        self._serving = [one for one in self._serving if one.thread.is_alive()]
        if time.monotonic() - self._renewed >= self._renew_seconds:
            self._renew()
            with self._database.begin() as connection:
                self._clock.report(connection)
            self._renewed = time.monotonic()
        # Before a sink is claimed: events of another history belong to another epoch.
        follow_server(self._database)
        free = min(AT_ONCE, MOST_SINKS - len(self._serving))
        if free > 0:
            self._claim(free)

    def _renew(self) -> None:
        """Keep the leases; a delivery that lost its lease gives up the request under way.

        It could not move a position any more, and its sink may be served by another relay.
        """
        for one in self._serving:
            with self._database.begin() as connection:
                kept = renew(connection, one.delivery.sink, seconds=LEASE_SECONDS)
            if not kept and not one.delivery.ended.is_set():
                logger().info("serving a sink no more", sink=one.delivery.sink.name)
                one.delivery.end_by(time.monotonic())

    def _claim(self, limit: int) -> None:
        with self._database.begin() as connection:
            # One that was paused and resumed waits until its former thread has ended.
            without = [one.delivery.sink.id for one in self._serving]
            sinks = claim(connection, me(), seconds=LEASE_SECONDS, limit=limit, without=without)
        for sink in sinks:
            delivery = Delivery(
                self._database, sink, self._settings, Event(), now=self._clock.server.time
            )
            thread = Thread(target=delivery.run, name=f"sink {sink.name}", daemon=True)
            thread.start()
            self._serving.append(_Serving(delivery, thread))
            logger().info("serving a sink", sink=sink.name)

    def _end(self) -> None:
        """Let requests under way be finished, under the lease: no other relay sends them, too."""
        stopped = time.monotonic()
        for one in self._serving:
            one.delivery.end_by(stopped + GRACE_SECONDS)
        while left := [one for one in self._serving if one.thread.is_alive()]:
            if time.monotonic() >= stopped + END_SECONDS:
                names = ", ".join(one.delivery.sink.name for one in left)
                logger().warning("sinks are left in the middle of a delivery", sinks=names)
                return
            self._serving = left
            if time.monotonic() - self._renewed >= self._renew_seconds:
                with suppress(Trouble):  # without the lease, events come once more, and that is all
                    self._renew()
                self._renewed = time.monotonic()
            left[0].thread.join(JOIN_SECONDS)
