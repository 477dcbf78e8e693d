"""The relay: claims sinks, serves each in a thread, and keeps their leases.

Several relays share the sinks among them; when one dies, its sinks go to the others once their
leases have lapsed.
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
"""Sinks of one relay."""
POOL_SIZE: Final = 2 * MAX_SINKS + 1
"""Connections to Postgres, at most: a sink reads on while it commits where it is."""
SHUTDOWN_GRACE_SECONDS: Final = 4.0
"""What is in hand has so long to be delivered once the relay is stopped; then it is given up, and
delivered again by who serves the sink next."""
SHUTDOWN_SECONDS: Final = 7.0
"""After which a stopped relay has ended, whatever its sinks or Postgres do."""
MAX_CLAIMS_PER_TICK: Final = 2
"""Sinks claimed at one look, so that relays that start together share them."""


@dataclass(frozen=True)
class _RunningDelivery:
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
        self._running: list[_RunningDelivery] = []
        self._renewed_at = 0.0
        self._clock = ClockReport()

    def run(self, stop: Event) -> None:
        """Serve sinks until told to stop; requests under way have a grace to be finished."""
        try:
            while not stop.is_set():
                try:
                    self._tick()
                except MirrorError as trouble:
                    get_logger().warning("sinks cannot be looked after", reason=str(trouble))
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
        # Before a sink is claimed: events of another history belong to another epoch.
        rewind_if_restored(self._database)
        free = min(MAX_CLAIMS_PER_TICK, MAX_SINKS - len(self._running))
        if free > 0:
            self._claim_sinks(free)

    def _renew_leases(self) -> None:
        """Keep the leases; a delivery that lost its lease gives up the request under way.

        It could not move a position any more, and its sink may be served by another relay.
        """
        for one in self._running:
            with self._database.open_transaction() as db:
                kept = renew_sink(db, one.delivery.sink, seconds=LEASE_SECONDS)
            if not kept and not one.delivery.stop.is_set():
                get_logger().info("serving a sink no more", sink=one.delivery.sink.name)
                one.delivery.stop_by(time.monotonic())

    def _claim_sinks(self, limit: int) -> None:
        with self._database.open_transaction() as db:
            # One that was paused and resumed waits until its former thread has ended.
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
            get_logger().info("serving a sink", sink=sink.name)

    def _shut_down(self) -> None:
        """Let requests under way be finished, under the lease: no other relay sends them, too."""
        stopped = time.monotonic()
        for one in self._running:
            one.delivery.stop_by(stopped + SHUTDOWN_GRACE_SECONDS)
        while left := [one for one in self._running if one.thread.is_alive()]:
            if time.monotonic() >= stopped + SHUTDOWN_SECONDS:
                names = ", ".join(one.delivery.sink.name for one in left)
                get_logger().warning("sinks are left in the middle of a delivery", sinks=names)
                return
            self._running = left
            if time.monotonic() - self._renewed_at >= self._renew_seconds:
                with suppress(
                    MirrorError
                ):  # without the lease, events come once more, and that is all
                    self._renew_leases()
                self._renewed_at = time.monotonic()
            left[0].thread.join(JOIN_SECONDS)
