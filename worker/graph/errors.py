"""Classifies Graph's responses into our errors.

https://learn.microsoft.com/graph/errors, /graph/delta-query-overview and /graph/throttling.
Codes are compared in lower case at every depth of ``innerError``, and where a message is a document
with a code. The text of messages is never used to classify.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from worker.conditions.reasons import (
    ACCESS_REJECTED,
    GRAPH_ANSWERED,
    NOT_LICENSED,
    NOT_OFFERED,
)
from worker.core.errors import (
    ConnectionBroken,
    CursorExpired,
    MalformedResponse,
    MirrorError,
    NotLicensed,
    ResourceRefused,
    RetryLater,
)
from worker.nango.response import JSON_ERRORS, TRANSIENT_STATUSES, ApiResponse, is_timeout

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
_LICENCE_CODES = frozenset(
    {"aadpremiumlicenserequired", "authentication_requestfromnonpremiumtenantorb2ctenant"}
)
"""Codes for a licence that the tenant lacks: of privileged identity management, and of reports."""

_UNKNOWN_ERROR: Final = "unknownerror"
"""A code that says nothing; the one that does stands further inside."""

_CODE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,99}")
"""The form of a code within a message. What has another form may be anything."""

MAX_MESSAGE_DOCUMENT: Final = 4000
"""Characters up to which a message is read as a document."""

_UNPRINTABLE: Final = re.compile(r"[^\x21-\x7e]+")
"""Removed from codes: they are stored, and Postgres cannot store all that JSON can hold."""


def list_error_codes(response: ApiResponse) -> list[str]:
    """Return every error code in the body, outermost first.

    Behind a code comes the one in its message, where the message is a document itself, as the
    service for privileged identity management writes it.
    """
    document = response.parse_json()
    error = document.get("error") if isinstance(document, dict) else None
    return [code for code in _iter_codes(error) if code]


def _iter_codes(error: Any, depth: int = 0) -> Iterator[str]:
    if not isinstance(error, dict) or depth > 8:
        return
    code = error.get("code")
    if isinstance(code, str):
        yield _UNPRINTABLE.sub("?", code)[:100]
    yield from _iter_message_codes(error.get("message"))
    for name in ("innerError", "innererror"):
        yield from _iter_codes(error.get(name), depth + 1)


def _iter_message_codes(message: Any) -> Iterator[str]:
    """Yield the code in a message such as ``{"errorCode": "PermissionScopeNotGranted", ...}``."""
    if not isinstance(message, str) or len(message) > MAX_MESSAGE_DOCUMENT:
        return
    if not message.lstrip().startswith("{"):
        return
    try:
        document = msgspec.json.decode(message)
    except JSON_ERRORS:
        return
    code = document.get("errorCode") if isinstance(document, dict) else None
    if isinstance(code, str) and _CODE.fullmatch(code):
        yield code


def choose_error_code(codes: Sequence[str]) -> str:
    """Return the outermost code that says something, or an empty text."""
    telling = (code for code in codes if code.lower() != _UNKNOWN_ERROR)
    return next(telling, codes[0] if codes else "")


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
    refused = _build_refusal(response.status, codes, permission)
    refused.graph_message = _get_message(response)
    return refused


def _get_message(response: ApiResponse) -> str:
    document = response.parse_json()
    error = document.get("error") if isinstance(document, dict) else None
    message = error.get("message") if isinstance(error, dict) else None
    return message[:2000] if isinstance(message, str) else ""


def _build_refusal(status: int, codes: Sequence[str], permission: str) -> ResourceRefused:
    licence = next((code for code in codes if code.lower() in _LICENCE_CODES), "")
    code = licence or choose_error_code(codes)
    said = f"Graph answers {status}{f' {code}' if code else ''}"
    if licence:
        refused: ResourceRefused = NotLicensed(f"{said}; {NOT_LICENSED}")
    elif status in (401, 403):
        advice = f"grant the application permission {permission} and consent to it again"
        refused = ResourceRefused(f"{said}; {advice}" if permission else said)
    else:
        refused = ResourceRefused(f"{said}; {NOT_OFFERED}")
    refused.status, refused.code = status, code
    return refused
