"""Ages, times and numbers as the page shows them. Pure."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from worker.core.time_text import render_age


class Zone(StrEnum):
    """How times are shown."""

    UTC = "utc"
    LOCAL = "local"
    """In the zone of the browser."""
    RELATIVE = "relative"


_NOW_SECONDS: Final = 1.0


def render_instant(instant: datetime, now: datetime, zone: Zone) -> str:
    """Return a time as text. The browser knows its zone, so ``local`` is UTC until it has run."""
    if zone is Zone.RELATIVE:
        return render_distance(instant, now)
    return instant.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def render_distance(instant: datetime, now: datetime) -> str:
    """Return how far away a time is: "5 min ago", "in 2 h"."""
    seconds = (now - instant).total_seconds()
    if abs(seconds) < _NOW_SECONDS:
        return "now"
    return f"{render_age(seconds)} ago" if seconds > 0 else f"in {render_age(-seconds)}"


def render_machine_time(instant: datetime) -> str:
    """Return a time for the attribute ``datetime``, to the second."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def render_number(number: float | None) -> str:
    """Return a number with separators; a dash for none."""
    if number is None:
        return "-"
    return f"{number:,}" if isinstance(number, int) else f"{number:,.1f}"


def render_words(word: object) -> str:
    """Return the words of a code or state."""
    return str(word).replace("_", " ").replace(".", " ")


_SHORT_SECONDS: Final = 120


def render_duration(seconds: float) -> str:
    """Return how long something took: "0.4 s", "5 min"."""
    return f"{seconds:.1f} s" if seconds < _SHORT_SECONDS else render_age(seconds)
