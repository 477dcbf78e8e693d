"""Monotonic clocks, for intervals and for times that only this process uses.

The clock of a host may be wrong, and may be set back by an hour at any time. Times that processes
share come from the clock of the server that stores them.
"""

import time
from datetime import UTC, datetime
from typing import Final

_UNIX_TIME: Final = time.time() - time.monotonic()


def steady_time() -> float:
    """Return the host's Unix time at the start of the process plus the seconds since."""
    return _UNIX_TIME + time.monotonic()


def steady_datetime() -> datetime:
    """Return ``steady_time`` as a datetime."""
    return datetime.fromtimestamp(steady_time(), UTC)


class ServerClock:
    """Estimates the clock of a server between two readings. Safe to use from several threads."""

    def __init__(self) -> None:
        self._ahead: float | None = None

    def observe(self, unix_time: float, moment: float) -> None:
        """Record that the server showed ``unix_time`` at ``moment`` of ``time.monotonic``."""
        self._ahead = unix_time - moment

    def time(self) -> float:
        """Return the server's Unix time; this host's until the first reading."""
        return time.time() if self._ahead is None else self._ahead + time.monotonic()
