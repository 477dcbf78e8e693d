"""Parse Retry-After and HTTP dates (RFC 9110, section 10.2.3)."""

import math
from email.utils import parsedate_to_datetime
from typing import Final

MAX_RETRY_AFTER: Final = 86_400.0
"""Seconds. A service that asks for a longer pause is asked again after a day."""


def parse_http_date(value: str | None) -> float | None:
    """Return the Unix time of a Date header, or None if it is missing or unreadable."""
    try:
        return None if value is None else parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return None


def find_reference_time(named: str | None, date: str | None, now: float) -> float:
    """Return the time that a Retry-After date counts from: the response's Date, or our ``now``.

    Both dates come from the server's clock, which our clock need not agree with. Where they are
    further apart than the longest pause, they are not from one clock, and ``now`` is used.
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
