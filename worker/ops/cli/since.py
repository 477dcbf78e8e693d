"""Parsing of the option ``--since`` and others that take a time or an age."""

from datetime import datetime

from worker.core.errors import InvalidInput
from worker.events.start import FromAge, FromTime, parse_start_position


def parse_since(written: str, now: datetime) -> datetime:
    """Return the time that a person typed, or that is an age before ``now``.

    Raises InvalidInput.
    """
    start = parse_start_position(written)
    if isinstance(start, FromAge):
        return now - start.age
    if isinstance(start, FromTime):
        return start.moment
    raise InvalidInput(
        f"'{written[:40]}' is no time: expected a time (2026-11-22 or 2026-11-22T10:00Z) or an "
        "age (30m, 2h, 7d)"
    )


def parse_until(written: str, now: datetime) -> datetime:
    """Return the time that a person typed, or so long after ``now``. Raises InvalidInput."""
    start = parse_start_position(written)
    if isinstance(start, FromAge):
        return now + start.age
    if isinstance(start, FromTime):
        return start.moment
    raise InvalidInput(
        f"'{written[:40]}' is no time: expected a time (2026-11-22 or 2026-11-22T10:00Z) or a "
        "duration (30m, 2h, 7d)"
    )
