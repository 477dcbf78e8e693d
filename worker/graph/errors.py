"""Classifies Graph's responses into our errors.

https://learn.microsoft.com/graph/errors, /graph/delta-query-overview and /graph/throttling.
Codes are compared in lower case at every depth of ``innerError``. Messages are never used to
classify.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

from worker.conditions.reasons import ACCESS_REJECTED, GRAPH_ANSWERED, NOT_OFFERED
from worker.core.errors import (
    ConnectionBroken,
    CursorExpired,
    MalformedResponse,
    MirrorError,
    ResourceRefused,
    RetryLater,
)
from worker.nango.response import TRANSIENT_STATUSES, ApiResponse, is_timeout

_EXPIRED_CURSOR_CODES = frozenset(
    {
        "syncstatenotfound",
        "syncstateinvalid",
        "resyncrequired",
        "resyncchangesapplydifferences",
        "resyncchangesuploaddifferences",
        "directory_expiredpagetoken",
    }
)
LOCKED_STATUS: Final = 423
"""The resource is locked: it exists, and can be read once the lock is released.

Not in ``TRANSIENT_STATUSES``, because a lock outlasts the pauses that are waited in place.
"""

_REJECTED_TOKEN_CODES = frozenset({"invalidauthenticationtoken", "authentication_expiredtoken"})


_UNPRINTABLE: Final = re.compile(r"[^\x21-\x7e]+")
"""Removed from codes: they are stored, and Postgres cannot store all that JSON can hold."""


def list_error_codes(response: ApiResponse) -> list[str]:
    """Return every error code in the body, outermost first."""
    document = response.parse_json()
    error = document.get("error") if isinstance(document, dict) else None
    return [code for code in _iter_codes(error) if code]


def _iter_codes(error: Any, depth: int = 0) -> Iterator[str]:
    if not isinstance(error, dict) or depth > 8:
        return
    code = error.get("code")
    if isinstance(code, str):
        yield _UNPRINTABLE.sub("?", code)[:100]
    for name in ("innerError", "innererror"):
        yield from _iter_codes(error.get(name), depth + 1)


def is_token_rejected(response: ApiResponse) -> bool:
    """Whether Graph rejects the token."""
    if response.is_success or response.status in TRANSIENT_STATUSES:
        return False
    return response.status == 401 or not _REJECTED_TOKEN_CODES.isdisjoint(
        map(str.lower, list_error_codes(response))
    )


def classify_graph_response(  # noqa: PLR0911 - one return a verdict
    response: ApiResponse, now: float, permission: str = ""
) -> MirrorError | None:
    """Return the error of a response, or None for a success.

    A rejected token is an error of the connection, unless the tenant is known to accept it: then
    only this resource refuses it.
    """
    if response.is_success:
        return None
    codes = list_error_codes(response)
    lowered = {code.lower() for code in codes}
    if response.status == 410 or lowered & _EXPIRED_CURSOR_CODES:
        return CursorExpired("Graph no longer knows the cursor")
    if response.status in TRANSIENT_STATUSES or response.status == LOCKED_STATUS:
        after = response.get_retry_after(now)
        later = RetryLater(f"{GRAPH_ANSWERED} {response.status}", after=after or 30.0)
        later.status, later.has_retry_after = response.status, after is not None
        later.needs_smaller_request = is_timeout(response) and not later.has_retry_after
        return later
    if is_token_rejected(response) and not response.is_tenant_proven:
        return ConnectionBroken(ACCESS_REJECTED)
    if response.status == 424:
        return RetryLater("Graph did not run the request because another one failed", after=5.0)
    if 300 <= response.status < 400:
        return MalformedResponse(f"Graph answered {response.status}, a redirect", after=600)
    refused = _build_refusal(response.status, codes[0] if codes else "", permission)
    refused.graph_message = _get_message(response)
    return refused


def _get_message(response: ApiResponse) -> str:
    document = response.parse_json()
    error = document.get("error") if isinstance(document, dict) else None
    message = error.get("message") if isinstance(error, dict) else None
    return message[:2000] if isinstance(message, str) else ""


def _build_refusal(status: int, code: str, permission: str) -> ResourceRefused:
    said = f"Graph answers {status}{f' {code}' if code else ''}"
    if status in (401, 403):
        advice = f"grant the application permission {permission} and consent to it again"
        refused = ResourceRefused(f"{said}; {advice}" if permission else said)
    else:
        refused = ResourceRefused(f"{said}; {NOT_OFFERED}")
    refused.status, refused.code = status, code
    return refused
