"""An HTTP response: status, headers and the undecoded body."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from worker.core.net.retry_after import find_reference_time, parse_retry_after

JSON_ERRORS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are not the expected JSON."""

TRANSIENT_STATUSES: Final = frozenset({408, 409, 421, 425, 429, 449, *range(500, 600)} - {501})
"""Transient statuses: the same request may succeed later."""


@dataclass(frozen=True)
class ApiResponse:
    """A response. Header names are lower case."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    is_tenant_proven: bool = False
    """Whether the connection's own tenant is known to have accepted the token of this request."""

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    def parse_json(self) -> Any:
        """Return the body as plain JSON values, or None if it is not JSON."""
        try:
            return msgspec.json.decode(self.body)
        except JSON_ERRORS:
            return None

    def get_retry_after(self, now: float) -> float | None:
        """Return the seconds of Retry-After: an integer, a decimal or an HTTP date.

        A date counts from the response's own ``Date``; from ``now`` (Unix time) only if that is
        missing or does not fit. None if nothing usable was sent.
        """
        named = self.headers.get("retry-after")
        return parse_retry_after(named, find_reference_time(named, self.headers.get("date"), now))

    def get_number(self, name: str) -> float | None:
        """Return the value of a numeric header; None if it is missing or no usable number."""
        try:
            value = float(self.headers[name])
        except (KeyError, ValueError):
            return None
        return value if 0 <= value < 1e12 else None


_TIMEOUT_TEXT: Final = re.compile(rb"time[ds]?[ -]?out|took too long", re.IGNORECASE)


def is_timeout(response: ApiResponse) -> bool:
    """Whether the service reports a timeout of this request."""
    if response.status in (408, 504, 524, 598, 599):
        return True
    return response.status in (500, 502, 503) and bool(_TIMEOUT_TEXT.search(response.body[:4000]))
