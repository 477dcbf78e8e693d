"""Parsing of start positions in the change events: a number, a time, an age, ``oldest``.

Pure: ``resolve_start.py`` resolves a position for each connection.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from worker.core.errors import InvalidInput

MAX_BIGINT: Final = 2**63 - 1
"""Largest ``bigint`` of Postgres."""
MAX_AGE_DAYS: Final = 36_500


@dataclass(frozen=True, slots=True)
class FromOldest:
    """Start with the oldest stored event."""


@dataclass(frozen=True, slots=True)
class FromSnapshot:
    """Start with a snapshot of the current rows, followed by later events."""


@dataclass(frozen=True, slots=True)
class FromSequence:
    """Start with the event that has this number in a connection's sequence."""

    seq: int


@dataclass(frozen=True, slots=True)
class FromTime:
    """Start with the first event at or after a time."""

    moment: datetime


@dataclass(frozen=True, slots=True)
class FromAge:
    """Start with the first event that is not older than ``age``."""

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
    """Parse what a person typed; times without a zone are UTC. Raises InvalidInput."""
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


def parse_moment(value: str, option: str) -> FromTime | FromAge:
    """Parse a time or an age. Raises InvalidInput, which names the option, for anything else."""
    try:
        found = parse_start_position(value)
    except InvalidInput:
        found = None
    if isinstance(found, FromTime | FromAge):
        return found
    raise InvalidInput(
        f"{option}: '{value[:40]}' is neither a time (2026-11-22 or 2026-11-22T10:00Z) nor an age "
        "(30m, 2h, 7d)"
    )


def check_single_connection(start: StartPosition, only: Collection[int] | None) -> None:
    """Raise InvalidInput for a number unless exactly one connection is given."""
    if isinstance(start, FromSequence) and (only is None or len(only) != 1):
        raise InvalidInput(
            f"a number such as {start.seq} belongs to one connection; name it with "
            "--connection, or start with a time"
        )


def _parse_sequence(digits: str) -> FromSequence:
    if len(digits) > len(str(MAX_BIGINT)) or not 1 <= int(digits) <= MAX_BIGINT:
        raise InvalidInput(f"an event's number is 1 to {MAX_BIGINT:,}")
    return FromSequence(int(digits))


def _parse_age(number: int, unit: str) -> FromAge:
    if number > timedelta(days=MAX_AGE_DAYS) // _UNITS[unit]:
        raise InvalidInput(
            f"an age is at most {MAX_AGE_DAYS:,} days; 'oldest' starts with the oldest event"
        )
    return FromAge(number * _UNITS[unit])


def _parse_time(wanted: str) -> FromTime:
    moment = _parse_datetime(wanted) if _DATE_FIRST.match(wanted) else None
    if moment is None:
        raise InvalidInput(
            f"invalid start '{wanted[:40]}': expected the number of an event (42), a time "
            "(2026-11-22 or 2026-11-22T10:00Z), an age (30m, 2h, 7d) or 'oldest'"
        )
    return FromTime(moment)


def _parse_datetime(written: str) -> datetime | None:
    """Return a time in UTC; None if it is not a time."""
    try:
        moment = datetime.fromisoformat(written)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
