"""What came back from one call: a status, headers and the bytes, not yet understood."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Final

import msgspec

JSON_ERRORS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises where bytes are not the JSON that is looked for."""

TRANSIENT_STATUSES: Final = frozenset({408, 409, 421, 425, 429, 449, *range(500, 600)} - {501})
"""Statuses of a condition that passes: the same request may succeed when it is sent again."""

MAX_RETRY_AFTER: Final = 86_400.0
"""Seconds; a service that asks for more is asked again after a day all the same."""


@dataclass(frozen=True)
class ApiResponse:
    """An answer. Header names are lower case."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    is_tenant_proven: bool = False
    """Whether the connection's own tenant is known to accept the token that it was asked with."""

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    def parse_json(self) -> Any:
        """The body as plain JSON values, or None where it is not JSON."""
        try:
            return msgspec.json.decode(self.body)
        except JSON_ERRORS:
            return None

    def get_retry_after(self, now: float) -> float | None:
        """Seconds to wait as the service says: an integer, a decimal or an HTTP date.

        A date counts from the answer's own ``Date``; from ``now`` (Unix time) only where it has
        none that goes with it. None where nothing usable was sent.
        """
        named = self.headers.get("retry-after")
        return parse_retry_after(named, find_reference_time(named, self.headers.get("date"), now))


_TIMEOUT_TEXT: Final = re.compile(rb"time[ds]?[ -]?out|took too long", re.IGNORECASE)


def is_timeout(response: ApiResponse) -> bool:
    """Whether the service says that it had no time for this request."""
    if response.status in (408, 504, 524, 598, 599):
        return True
    return response.status in (500, 502, 503) and bool(_TIMEOUT_TEXT.search(response.body[:4000]))


def parse_http_date(value: str | None) -> float | None:
    """The Unix time of a Date header; None where there is none that can be read."""
    try:
        return None if value is None else parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return None


def find_reference_time(named: str | None, date: str | None, now: float) -> float:
    """The time that a Retry-After date counts from: the answer's Date, or ``now`` by our clock.

    The two dates are of one clock, so our own need not agree with it. Where they are further apart
    than any pause is long, they are not.
    """
    until, there = parse_http_date(named), parse_http_date(date)
    if until is None or there is None or abs(until - there) > MAX_RETRY_AFTER:
        return now
    return there


def parse_retry_after(value: str | None, now: float) -> float | None:
    """Parse a Retry-After header into 0 seconds to a day. https://www.rfc-editor.org/rfc/rfc9110"""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        until = parse_http_date(value)
        if until is None:
            return None
        seconds = until - now
    return min(max(0.0, seconds), MAX_RETRY_AFTER) if math.isfinite(seconds) else None
