"""Finds the times in sentences and stored details, which are all in UTC. Pure."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final, NamedTuple

_MOMENT: Final = re.compile(
    r"(?P<at>\bat )?\b(?P<moment>(?:(?P<day>\d{4}-\d\d-\d\d)[ T])?"
    r"(?P<time>\d\d:\d\d(?::\d\d)?)(?:\.\d{1,6})?(?: UTC\b|Z\b|\+00:00))",
    re.ASCII,
)
"""As ``render_moment`` and ISO 8601 write them; without a day it is the present one."""


class FoundMoment(NamedTuple):
    """A time in a text."""

    start: int
    end: int
    start_with_at: int
    """Where the word "at" before it starts, if there is one."""
    moment: datetime


def find_moments(text: str, now: datetime) -> Iterator[FoundMoment]:
    """Yield the times of a text in their order; what is no time is passed over."""
    for found in _MOMENT.finditer(text):
        day = found["day"] or f"{now.astimezone(UTC):%Y-%m-%d}"
        try:
            moment = datetime.fromisoformat(f"{day} {found['time']}").replace(tzinfo=UTC)
        except ValueError:
            continue
        yield FoundMoment(found.start("moment"), found.end(), found.start(), moment)
