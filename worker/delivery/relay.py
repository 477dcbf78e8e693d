"""The relay: claims sinks, serves each in a thread, and renews their leases.

Several relays share the sinks; when one dies, the others take its sinks once their leases have
expired.
"""

import time
from contextlib import suppress
from dataclasses import dataclass
from threading import Event, Thread
from typing import Final

from worker.core.errors import MirrorError
from worker.core.log import get_logger
from worker.core.process import heartbeat
from worker.core.settings import Settings
from worker.delivery.deliver import LEASE_SECONDS, Delivery
from worker.delivery.store.rewind import rewind_if_restored
from worker.delivery.store.sinks import claim_sinks, renew_sink
from worker.store.engine import Database
from worker.store.lease import get_holder_name
from worker.store.service.host_clocks import ClockReport

TICK_SECONDS: Final = 1.0
RENEW_SECONDS: Final = 4.0
JOIN_SECONDS: Final = 0.5
MAX_SINKS: Final = 16
"""Most sinks that one relay serves."""
POOL_SIZE: Final = 2 * MAX_SINKS + 1
"""Most connections to Postgres: each sink reads ahead while it commits its position."""
SHUTDOWN_GRACE_SECONDS: Final = 4.0
"""Seconds that a stopped relay has to finish requests under way.

Then they are aborted, and the next relay to serve the sink delivers the events again.
"""
SHUTDOWN_SECONDS: Final = 7.0
"""Seconds after which a stopped relay has ended, even if its sinks or Postgres hang."""
MAX_CLAIMS_PER_TICK: Final = 2
"""Most sinks claimed in one tick, so that relays that start together share them."""


@dataclass(frozen=True)
class _RunningDelivery:
    delivery: Delivery
    thread: Thread


class Relay:
    """Serves the sinks that one process has claimed."""

    def __init__(
        self, database: Database, settings: Settings, *, renew_seconds: float = RENEW_SECONDS
    ) -> None:
        self._database = database
        self._settings = settings
        self._renew_seconds = renew_seconds
        self._running: list[_RunningDelivery] = []
        self._renewed_at = 0.0
        self._clock = ClockReport()

    def run(self, stop: Event) -> None:
        """Serve sinks until ``stop`` is set; requests under way get a grace period."""
        try:
            while not stop.is_set():
                try:
                    self._tick()
                except MirrorError as error:
                    get_logger().warning("relay tick failed", reason=str(error))
                heartbeat.write_heartbeat("relay")
                stop.wait(min(TICK_SECONDS, self._renew_seconds))
        finally:
            self._shut_down()

    def _tick(self) -> None:
        self._running = [one for one in self._running if one.thread.is_alive()]
        if time.monotonic() - self._renewed_at >= self._renew_seconds:
            self._renew_leases()
            with self._database.open_transaction() as db:
                self._clock.report(db)
            self._renewed_at = time.monotonic()
        # Before claiming sinks: after a restore, events belong to a new epoch.
        rewind_if_restored(self._database)
        free = min(MAX_CLAIMS_PER_TICK, MAX_SINKS - len(self._running))
        if free > 0:
            self._claim_sinks(free)

    def _renew_leases(self) -> None:
        """Renew the leases; a delivery that lost its lease aborts the request under way.

        It can no longer advance a position, and another relay may serve its sink.
        """
        for one in self._running:
            with self._database.open_transaction() as db:
                kept = renew_sink(db, one.delivery.sink, seconds=LEASE_SECONDS)
            if not kept and not one.delivery.stop.is_set():
                get_logger().info("sink lease lost", sink=one.delivery.sink.name)
                one.delivery.stop_by(time.monotonic())

    def _claim_sinks(self, limit: int) -> None:
        with self._database.open_transaction() as db:
            # A sink that was paused and resumed waits until its former thread has ended.
            without = [one.delivery.sink.id for one in self._running]
            sinks = claim_sinks(
                db, get_holder_name(), seconds=LEASE_SECONDS, limit=limit, exclude=without
            )
        for sink in sinks:
            delivery = Delivery(
                self._database, sink, self._settings, Event(), now=self._clock.server_clock.time
            )
            thread = Thread(target=delivery.run, name=f"sink {sink.name}", daemon=True)
            thread.start()
            self._running.append(_RunningDelivery(delivery, thread))
            get_logger().info("sink claimed", sink=sink.name)

    def _shut_down(self) -> None:
        """Finish requests under way while holding the leases, so that no relay sends them twice."""
        stopped = time.monotonic()
        for one in self._running:
            one.delivery.stop_by(stopped + SHUTDOWN_GRACE_SECONDS)
        while left := [one for one in self._running if one.thread.is_alive()]:
            if time.monotonic() >= stopped + SHUTDOWN_SECONDS:
                names = [one.delivery.sink.name for one in left]
                get_logger().warning("deliveries abandoned at shutdown", sinks=names)
                return
            self._running = left
            if time.monotonic() - self._renewed_at >= self._renew_seconds:
                with suppress(MirrorError):  # without the lease, events are only delivered again
                    self._renew_leases()
                self._renewed_at = time.monotonic()
            left[0].thread.join(JOIN_SECONDS)
