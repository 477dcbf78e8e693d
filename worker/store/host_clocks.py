"""Hosts whose clocks differ from Postgres's, as their processes report it.

Nothing that processes share goes by a host's clock. What is left of it is for people and for
others' servers: the times of log lines, and whether a certificate is in force.
"""

import json
import time
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, text

from worker.core.log import logger
from worker.core.process_identity import this_process
from worker.core.steady import ServerClock

OFF_SECONDS: Final = 2.0
"""A difference that is reported; a smaller one may come of the way to Postgres and back."""

SLOW_SECONDS: Final = 1.0
"""An answer that took longer says too little about the clock."""

REPORTED_SECONDS: Final = 20.0
"""An older report is of a process that has ended, or does not report any more."""

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
_LIST = text("""
    select distinct on (value ->> 'host') value ->> 'host' as host,
           (value ->> 'seconds')::float8 as seconds
      from sync.service_state
     where starts_with(name, 'clock:')
       and updated_at > clock_timestamp() - make_interval(secs => :seconds)
     order by value ->> 'host', abs((value ->> 'seconds')::float8) desc
""")


@dataclass(frozen=True)
class HostClock:
    """A host whose clock is off."""

    host: str
    seconds: float
    """By which it is ahead of Postgres's; negative where it is behind."""

    def __str__(self) -> str:
        side = "ahead of" if self.seconds > 0 else "behind"
        return f"the clock of host {self.host} is {abs(self.seconds):,.0f} s {side} Postgres's"


def clock_difference(connection: Connection, server: ServerClock | None = None) -> float | None:
    """Seconds by which this host's clock is ahead of Postgres's; None where that took too long.

    ``server`` is set by the same answer.
    """
    here, began = time.time(), time.monotonic()
    there = float(connection.execute(_NOW).scalar_one())
    took = time.monotonic() - began
    if took > SLOW_SECONDS:
        return None
    if server is not None:
        server.set(there, began + took / 2)
    return here + took / 2 - there


def hosts_off(connection: Connection) -> list[HostClock]:
    """The hosts whose clocks are off now, by name."""
    rows = connection.execute(_LIST, {"seconds": REPORTED_SECONDS})
    return [HostClock(row.host, row.seconds) for row in rows]


def all_hosts_off(connection: Connection) -> list[HostClock]:
    """The same, and this host, which may be one on which no worker runs."""
    found = hosts_off(connection)
    here = this_process().host
    seconds = clock_difference(connection) or 0.0
    if abs(seconds) < OFF_SECONDS or here in [one.host for one in found]:
        return found
    return [*found, HostClock(here, round(seconds, 1))]


class ClockReport:
    """Reports for one process whether the clock of its host is off, as long as it is."""

    def __init__(self) -> None:
        self.server = ServerClock()
        """Postgres's clock, as last seen."""
        self._is_off: bool | None = None

    def report(self, connection: Connection) -> None:
        seconds = clock_difference(connection, self.server)
        if seconds is None:
            return
        clock = HostClock(this_process().host, round(seconds, 1))
        is_off = abs(seconds) >= OFF_SECONDS
        name = f"clock:{this_process()}"
        if is_off:
            value = json.dumps({"host": clock.host, "seconds": clock.seconds})
            connection.execute(_REPORT, {"name": name, "value": value})
        elif self._is_off is not False:
            connection.execute(_WITHDRAW, {"name": name})
        if is_off and not self._is_off:
            logger().warning(f"{clock}; have its time set by NTP")
        self._is_off = is_off
