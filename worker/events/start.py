"""Where in the change events to begin, as a person says it: a number, a time, an age, ``oldest``.

Pure: what it comes to for a connection is looked up in ``store/sequence.py``.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from worker.core.errors import ConfigurationError

MAX_BIGINT: Final = 2**63 - 1
"""Of Postgres's numbers."""
MAX_AGE_DAYS: Final = 36_500


@dataclass(frozen=True, slots=True)
class FromOldest:
    """With the oldest event that is kept."""


@dataclass(frozen=True, slots=True)
class FromSnapshot:
    """With what is there today, and whatever follows it."""


@dataclass(frozen=True, slots=True)
class FromSequence:
    """With the event of that number in a connection's sequence."""

    seq: int


@dataclass(frozen=True, slots=True)
class FromTime:
    """With the first event at or after a moment."""

    moment: datetime


@dataclass(frozen=True, slots=True)
class FromAge:
    """With the first event that is no older."""

    age: timedelta


StartPosition = FromOldest | FromSnapshot | FromSequence | FromTime | FromAge

_NUMBER: Final = re.compile(r"[0-9]+")
_AGE: Final = re.compile(r"([0-9]{1,12})([smhdw])")
_DATE_FIRST: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_UNITS: Final = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}


def parse_start_position(value: str) -> StartPosition:
    """What a person means by it; times without a zone are UTC. Raises ConfigurationError."""
    wanted = value.strip()
    if wanted.lower() == "oldest":
        return FromOldest()
    if wanted.lower() == "snapshot":
        return FromSnapshot()
    if _NUMBER.fullmatch(wanted):
        return _parse_sequence(wanted)
    age = _AGE.fullmatch(wanted)
    if age:
        return _parse_age(int(age[1]), age[2])
    return _parse_time(wanted)


def check_single_connection(start: StartPosition, only: Collection[int] | None) -> None:
    """Raises ConfigurationError for a number without the one connection that it belongs to."""
    if isinstance(start, FromSequence) and (only is None or len(only) != 1):
        raise ConfigurationError(
            f"a number such as {start.seq} belongs to one connection; name it with "
            "--connection, or begin with a time"
        )


def _parse_sequence(digits: str) -> FromSequence:
    if len(digits) > len(str(MAX_BIGINT)) or not 1 <= int(digits) <= MAX_BIGINT:
        raise ConfigurationError(f"an event's number is 1 to {MAX_BIGINT:,}")
    return FromSequence(int(digits))


def _parse_age(number: int, unit: str) -> FromAge:
    if number > timedelta(days=MAX_AGE_DAYS) // _UNITS[unit]:
        raise ConfigurationError(
            f"an age is at most {MAX_AGE_DAYS:,} days; 'oldest' begins with all there is"
        )
    return FromAge(number * _UNITS[unit])


def _parse_time(wanted: str) -> FromTime:
    moment = _parse_datetime(wanted) if _DATE_FIRST.match(wanted) else None
    if moment is None:
        raise ConfigurationError(
            f"'{wanted[:40]}' is no place to begin; say the number of an event (42), a time "
            "(2026-11-22 or 2026-11-22T10:00Z), an age (30m, 2h, 7d) or 'oldest'"
        )
    return FromTime(moment)


def _parse_datetime(written: str) -> datetime | None:
    """In UTC; None where it is no time."""
    try:
        moment = datetime.fromisoformat(written)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
