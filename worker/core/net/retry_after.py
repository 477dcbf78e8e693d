"""Parse Retry-After and HTTP dates (RFC 9110, section 10.2.3)."""

import math
from email.utils import parsedate_to_datetime
from typing import Final

MAX_RETRY_AFTER: Final = 86_400.0
"""Seconds; a service that asks for more is asked again after a day all the same."""


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
