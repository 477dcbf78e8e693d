"""Ages and moments as people read them."""

from datetime import datetime, timedelta
from typing import Any


def render_age(seconds: Any) -> str:
    """Return an age for people."""
    if seconds is None:
        return "never"
    value = float(seconds)
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if value >= 2 * size:
            return f"{value / size:.0f} {unit}"
    return f"{max(0.0, value):.0f} s"


def render_moment(moment: datetime, now: datetime) -> str:
    """Return a time of the database: without its date if that is today's."""
    form = "%H:%M:%S UTC" if moment.date() == now.date() else "%Y-%m-%d %H:%M UTC"
    return moment.strftime(form)


def drop_jitter(moment: datetime) -> datetime:
    """Return the nearest second of a time that is computed from a number of seconds.

    Computed again, it differs by some milliseconds, which would look like news.
    """
    return (moment + timedelta(milliseconds=500)).replace(microsecond=0)


def render_count(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun: "1 row", "2,000 rows"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
