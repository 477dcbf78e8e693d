"""What an answer of Graph means for the stream that asked.

https://learn.microsoft.com/graph/errors, /graph/delta-query-overview and /graph/throttling.
Codes are compared in lower case at every depth of ``innerError``. A message never decides what an
answer means.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

from worker.core.errors import Broken, Later, Refused, Restart, Torn, Trouble
from worker.nango.reply import PASSING, Reply, is_slow

_RESTART = frozenset(
    {
        "syncstatenotfound",
        "syncstateinvalid",
        "resyncrequired",
        "resyncchangesapplydifferences",
        "resyncchangesuploaddifferences",
        "directory_expiredpagetoken",
    }
)
LOCKED: Final = 423
"""What was asked for is locked: it exists, and can be read once the lock is released.

Not in ``PASSING``, because a lock outlasts the pauses that are waited in place.
"""

_REVOKED = frozenset({"invalidauthenticationtoken", "authentication_expiredtoken"})


_UNPRINTED: Final = re.compile(r"[^\x21-\x7e]+")
"""No code has these; reasons are stored, and Postgres does not take all that JSON can hold."""


def error_codes(reply: Reply) -> list[str]:
    """Every error code in the body, outermost first."""
    document = reply.document()
    error = document.get("error") if isinstance(document, dict) else None
    return [code for code in _codes(error) if code]


def _codes(error: Any, depth: int = 0) -> Iterator[str]:
    if not isinstance(error, dict) or depth > 8:
        return
    code = error.get("code")
    if isinstance(code, str):
        yield _UNPRINTED.sub("?", code)[:100]
    for name in ("innerError", "innererror"):
        yield from _codes(error.get(name), depth + 1)


def rejects_token(reply: Reply) -> bool:
    """Whether Graph says that it does not take the token."""
    if reply.ok or reply.status in PASSING:
        return False
    return reply.status == 401 or not _REVOKED.isdisjoint(map(str.lower, error_codes(reply)))


def graph_trouble(  # noqa: PLR0911 - one return a verdict
    reply: Reply, now: float, permission: str = ""
) -> Trouble | None:
    """Why the answer is of no use, or None where it is a success.

    A rejected token is the connection's trouble, unless the tenant is known to accept it: then it
    is this resource alone that refuses it.
    """
    if reply.ok:
        return None
    codes = error_codes(reply)
    lowered = {code.lower() for code in codes}
    if reply.status == 410 or lowered & _RESTART:
        return Restart("Graph no longer knows the cursor")
    if reply.status in PASSING or reply.status == LOCKED:
        after = reply.retry_after(now)
        later = Later(f"Graph answered {reply.status}", after=after or 30.0)
        later.status, later.named = reply.status, after is not None
        later.slow = is_slow(reply) and not later.named
        return later
    if rejects_token(reply) and not reply.vouched:
        return Broken("Graph rejects the connection's token; the customer must reconnect")
    if reply.status == 424:
        return Later("Graph did not run the request, as another failed", after=5.0)
    if 300 <= reply.status < 400:
        return Torn(f"Graph answered {reply.status}, a redirection", after=600)
    refused = _refused(reply.status, codes[0] if codes else "", permission)
    refused.said = _message(reply)
    return refused


def _message(reply: Reply) -> str:
    document = reply.document()
    error = document.get("error") if isinstance(document, dict) else None
    message = error.get("message") if isinstance(error, dict) else None
    return message[:2000] if isinstance(message, str) else ""


def _refused(status: int, code: str, permission: str) -> Refused:
    said = f"Graph answers {status}{f' {code}' if code else ''}"
    if status in (401, 403):
        advice = f"grant the application permission {permission} and consent to it again"
        refused = Refused(f"{said}; {advice}" if permission else said)
    else:
        refused = Refused(f"{said}; the tenant does not offer this")
    refused.status, refused.code = status, code
    return refused
