"""A clock that nobody sets: for intervals, and for times that only this process keeps.

The clock of a host may be off, and may be set back by an hour at any time. What is shared between
processes goes by the clock of the server that keeps it.
"""

import time
from datetime import UTC, datetime
from typing import Final

_UNIX_TIME: Final = time.time() - time.monotonic()


def steady_time() -> float:
    """Unix seconds as the host had them when the process started, and seconds that have passed."""
    return _UNIX_TIME + time.monotonic()


def steady_datetime() -> datetime:
    """The same as a moment."""
    return datetime.fromtimestamp(steady_time(), UTC)


class ServerClock:
    """The clock of a server, between two looks at it. Safe to use from several threads."""

    def __init__(self) -> None:
        self._ahead: float | None = None

    def observe(self, unix_time: float, moment: float) -> None:
        """It showed ``unix_time`` at ``moment`` of ``time.monotonic``."""
        self._ahead = unix_time - moment

    def time(self) -> float:
        """Unix seconds by the server; by this host until the server was looked at."""
        return time.time() if self._ahead is None else self._ahead + time.monotonic()
