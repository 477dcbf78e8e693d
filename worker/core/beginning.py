"""Where in the change events to begin, as a person says it: a number, a time, an age, ``oldest``.

Pure: what it comes to for a connection is looked up in ``store/sequence.py``.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from worker.core.errors import Halt

LARGEST: Final = 2**63 - 1
"""Of Postgres's numbers."""
LONGEST_DAYS: Final = 36_500


@dataclass(frozen=True, slots=True)
class Oldest:
    """With the oldest event that is kept."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """With what is there today, and whatever follows it."""


@dataclass(frozen=True, slots=True)
class Numbered:
    """With the event of that number in a connection's sequence."""

    seq: int


@dataclass(frozen=True, slots=True)
class At:
    """With the first event at or after a moment."""

    moment: datetime


@dataclass(frozen=True, slots=True)
class Ago:
    """With the first event that is no older."""

    span: timedelta


Beginning = Oldest | Snapshot | Numbered | At | Ago

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


def parsed(said: str) -> Beginning:
    """What a person means by it; times without a zone are UTC. Raises Halt."""
    wanted = said.strip()
    if wanted.lower() == "oldest":
        return Oldest()
    if wanted.lower() == "snapshot":
        return Snapshot()
    if _NUMBER.fullmatch(wanted):
        return _numbered(wanted)
    age = _AGE.fullmatch(wanted)
    if age:
        return _ago(int(age[1]), age[2])
    return _at(wanted)


def check_scope(beginning: Beginning, only: Collection[int] | None) -> None:
    """Raises Halt for a number without the one connection that it belongs to."""
    if isinstance(beginning, Numbered) and (only is None or len(only) != 1):
        raise Halt(
            f"a number such as {beginning.seq} belongs to one connection; name it with "
            "--connection, or begin with a time"
        )


def _numbered(digits: str) -> Numbered:
    if len(digits) > len(str(LARGEST)) or not 1 <= int(digits) <= LARGEST:
        raise Halt(f"an event's number is 1 to {LARGEST:,}")
    return Numbered(int(digits))


def _ago(number: int, unit: str) -> Ago:
    if number > timedelta(days=LONGEST_DAYS) // _UNITS[unit]:
        raise Halt(f"an age is at most {LONGEST_DAYS:,} days; 'oldest' begins with all there is")
    return Ago(number * _UNITS[unit])


def _at(wanted: str) -> At:
    moment = _moment(wanted) if _DATE_FIRST.match(wanted) else None
    if moment is None:
        raise Halt(
            f"'{wanted[:40]}' is no place to begin; say the number of an event (42), a time "
            "(2026-11-22 or 2026-11-22T10:00Z), an age (30m, 2h, 7d) or 'oldest'"
        )
    return At(moment)


def _moment(written: str) -> datetime | None:
    """In UTC; None where it is no time."""
    try:
        moment = datetime.fromisoformat(written)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
