"""Hosts whose clocks differ from Postgres's, as their processes report.

Processes share no data that depends on a host's clock. It only affects the times of log lines and
whether a server's certificate counts as valid.
"""

import json
import time
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from sqlalchemy import text

from worker.core.clock import ServerClock
from worker.core.log import get_logger
from worker.core.process.identity import identify_this_process

SKEW_SECONDS: Final = 2.0
"""Smallest difference that is reported; the round trip may cause smaller ones."""

MAX_ROUND_TRIP_SECONDS: Final = 1.0
"""A measurement with a longer round trip is too imprecise."""

REPORT_VALID_SECONDS: Final = 20.0
"""Age from which a report counts as outdated: its process ended or hangs."""

_NOW = text("select extract(epoch from clock_timestamp())::float8")
_REPORT = text("""
    insert into sync.service_state (name, value, updated_at)
    values (:name, cast(:value as jsonb), clock_timestamp())
    on conflict (name) do update set value = excluded.value, updated_at = excluded.updated_at
""")
_WITHDRAW = text("""
    delete from sync.service_state
     where name = :name
        or starts_with(name, 'clock:') and updated_at < clock_timestamp() - interval '1 day'
""")


@dataclass(frozen=True)
class HostClock:
    """A host whose clock differs from Postgres's."""

    host: str
    seconds: float
    """Seconds ahead of Postgres's clock; negative if behind."""


def measure_clock_offset(db: sa.Connection, server: ServerClock | None = None) -> float | None:
    """Return the seconds this host's clock is ahead of Postgres's; None if the query took too long.

    The same answer sets ``server``.
    """
    here, began = time.time(), time.monotonic()
    there = float(db.execute(_NOW).scalar_one())
    took = time.monotonic() - began
    if took > MAX_ROUND_TRIP_SECONDS:
        return None
    if server is not None:
        server.observe(there, began + took / 2)
    return here + took / 2 - there


class ClockReport:
    """Reports, for one process, while the clock of its host differs."""

    def __init__(self) -> None:
        self.server_clock = ServerClock()
        """Postgres's clock, as last measured."""
        self._is_off: bool | None = None

    def report(self, db: sa.Connection) -> None:
        seconds = measure_clock_offset(db, self.server_clock)
        if seconds is None:
            return
        clock = HostClock(identify_this_process().host, round(seconds, 1))
        is_off = abs(seconds) >= SKEW_SECONDS
        name = f"clock:{identify_this_process()}"
        if is_off:
            value = json.dumps({"host": clock.host, "seconds": clock.seconds})
            db.execute(_REPORT, {"name": name, "value": value})
        elif self._is_off is not False:
            db.execute(_WITHDRAW, {"name": name})
        if is_off and not self._is_off:
            get_logger().warning(
                "host clock differs from Postgres's",
                host=clock.host,
                offset_seconds=clock.seconds,
                hint="synchronize the clock of the host by NTP",
            )
        self._is_off = is_off
