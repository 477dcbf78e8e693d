"""The relay: claims sinks, serves each in a thread, and keeps their leases.

Several relays share the sinks among them; when one dies, its sinks go to the others once their
leases have lapsed.
"""

import time
from contextlib import suppress
from dataclasses import dataclass
from threading import Event, Thread
from typing import Final

from worker.core.errors import Trouble
from worker.core.log import logger
from worker.core.settings import Settings
from worker.relay.delivery import LEASE_SECONDS, Delivery
from worker.store.engine import Database
from worker.store.lease import me
from worker.store.sinks import claim, renew

LOOK_SECONDS: Final = 1.0
RENEW_SECONDS: Final = 4.0
MOST_SINKS: Final = 16
"""Sinks of one relay."""
POOL_SIZE: Final = 2 * MOST_SINKS + 1
"""Connections to Postgres, at most: a sink reads on while it commits where it is."""
AT_ONCE: Final = 2
"""Sinks claimed at one look, so that relays that start together share them."""


@dataclass(frozen=True)
class _Serving:
    delivery: Delivery
    thread: Thread


class Relay:
    """All that one process serves."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._serving: list[_Serving] = []
        self._renewed = 0.0

    def run(self, stop: Event) -> None:
        """Serve sinks until told to stop; batches under way are finished."""
        try:
            while not stop.is_set():
                try:
                    self._look()
                except Trouble as trouble:
                    logger().warning("sinks cannot be looked after", reason=str(trouble))
                stop.wait(LOOK_SECONDS)
        finally:
            self._end()

    def _look(self) -> None:
        self._serving = [one for one in self._serving if one.thread.is_alive()]
        if time.monotonic() - self._renewed >= RENEW_SECONDS:
            self._renew()
            self._renewed = time.monotonic()
        free = min(AT_ONCE, MOST_SINKS - len(self._serving))
        if free > 0:
            self._claim(free)

    def _renew(self) -> None:
        """Keep the leases; who has lost his ends after the batch under way."""
        for one in self._serving:
            with self._database.begin() as connection:
                kept = renew(connection, one.delivery.sink, seconds=LEASE_SECONDS)
            if not kept and not one.delivery.ended.is_set():
                logger().info("serving a sink no more", sink=one.delivery.sink.name)
                one.delivery.ended.set()

    def _claim(self, limit: int) -> None:
        with self._database.begin() as connection:
            sinks = claim(connection, me(), seconds=LEASE_SECONDS, limit=limit)
        for sink in sinks:
            delivery = Delivery(self._database, sink, self._settings, Event())
            thread = Thread(target=delivery.run, name=f"sink {sink.name}")
            thread.start()
            self._serving.append(_Serving(delivery, thread))
            logger().info("serving a sink", sink=sink.name)

    def _end(self) -> None:
        """Let everybody finish what is in hand, under the lease: no other relay takes it up."""
        for one in self._serving:
            one.delivery.ended.set()
        while left := [one for one in self._serving if one.thread.is_alive()]:
            self._serving = left
            with suppress(Trouble):  # without the lease, events come once more, and that is all
                self._renew()
            left[0].thread.join(RENEW_SECONDS)
