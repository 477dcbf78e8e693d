"""What holds for every request, whatever it asks for: an id, bounds, headers, a log line."""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import anyio
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.core.log import get_logger
from worker.web.client_address import RequestOrigin, identify_client
from worker.web.context import WebContext
from worker.web.decode import MAX_BODY_BYTES
from worker.web.host import is_known_host
from worker.web.problem import RequestRefused, refuse_unavailable

DEADLINE_SECONDS: Final = 10.0

_RECORD: Final = "tenant_mirror"
"""Key of a request's record in its scope."""
_LOGGED_METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_HEADERS: Final = (
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)
DATA_POLICY: Final = b"default-src 'none'; frame-ancestors 'none'"
"""The content security policy of an answer that is not meant to be looked at in a browser."""
_HSTS: Final = (b"strict-transport-security", b"max-age=31536000")

AnswerRefusal = Callable[[Scope, RequestRefused], Response]
"""Makes the response to a refused request; its scope says what was asked for."""


@dataclass
class RequestRecord:
    """What becomes known of a request: for its log line, and for the headers of its response."""

    request_id: str
    client: RequestOrigin
    began: float
    route: str | None = None
    """The path of the table, once it is known."""
    is_quiet: bool = False
    """Whether a good answer is not worth a line, as monitors ask every few seconds."""
    name: str | None = None
    status: int | None = None
    policy: bytes = DATA_POLICY
    """The content security policy."""
    bounds: anyio.CancelScope | None = None
    """What ends it at its deadline."""


def get_record(scope: Scope) -> RequestRecord:
    """Return the record of a request that has passed the gate."""
    record: RequestRecord = scope[_RECORD]
    return record


def refuse_body() -> RequestRefused:
    return RequestRefused(413, "too-large", f"a body has at most {MAX_BODY_BYTES} bytes")


async def read_body(request: Request) -> bytes:
    """Return the whole body. Raises RequestRefused, and ClientDisconnect."""
    received = bytearray()
    async for chunk in request.stream():
        received += chunk
        if len(received) > MAX_BODY_BYTES:
            raise refuse_body()
    return bytes(received)


class RequestGate:
    """Gives each request an id, bounds and a log line, and each response its headers."""

    def __init__(self, app: ASGIApp, context: WebContext, answer_refusal: AnswerRefusal) -> None:
        self._app = app
        self._context = context
        self._answer_refusal = answer_refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http", scope["type"]
        record = RequestRecord(uuid.uuid4().hex, self._identify(scope), time.monotonic())
        scope[_RECORD] = record
        answer = partial(_send_with_headers, record, send)
        try:
            with anyio.fail_after(DEADLINE_SECONDS) as record.bounds:
                refusal = self._check(scope)
                if refusal is None:
                    await self._app(scope, receive, answer)
                else:
                    await self._answer_refusal(scope, refusal)(scope, receive, answer)
        except TimeoutError:
            if record.status is not None:
                raise
            refusal = refuse_unavailable(f"this took longer than {DEADLINE_SECONDS:.0f} seconds")
            await self._answer_refusal(scope, refusal)(scope, receive, answer)
        finally:
            _log_request(record, scope["method"])

    def _check(self, scope: Scope) -> RequestRefused | None:
        if not is_known_host(scope["headers"], self._context.host_names):
            return RequestRefused(
                421,
                "unknown-host",
                "this server is not known by that name; TENANT_MIRROR_WEB_NAMES lists its names",
            )
        return refuse_body() if _get_length(scope) > MAX_BODY_BYTES else None

    def _identify(self, scope: Scope) -> RequestOrigin:
        peer = scope.get("client")
        return identify_client(
            str(peer[0]) if peer else "",
            scope["headers"],
            self._context.proxies,
            is_encrypted=self._context.is_encrypted,
        )


async def _send_with_headers(record: RequestRecord, send: Send, message: Message) -> None:
    if message["type"] == "http.response.start":
        record.status = message["status"]
        headers = [*message["headers"], *_HEADERS]
        if not any(name == b"cache-control" for name, _ in headers):
            headers.append((b"cache-control", b"no-store"))
        headers.append((b"content-security-policy", record.policy))
        headers.append((b"x-request-id", record.request_id.encode()))
        if record.client.is_encrypted:
            headers.append(_HSTS)
        message = {**message, "headers": headers}
    elif message.get("more_body") and record.bounds is not None:
        # An answer in parts has the deadline anew for each of them.
        record.bounds.deadline = anyio.current_time() + DEADLINE_SECONDS
    await send(message)


def _get_length(scope: Scope) -> int:
    """Return the announced length of the body; 0 if none is announced."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value[:20])
    return 0


def _log_request(record: RequestRecord, method: str) -> None:
    """Log the route's template, never the path or query that was sent."""
    is_quiet = record.is_quiet and (record.status or 500) < 400
    log = get_logger()
    (log.debug if is_quiet else log.info)(
        "request",
        request_id=record.request_id,
        method=method if method in _LOGGED_METHODS else "other",
        route=record.route,
        status=record.status,
        milliseconds=round((time.monotonic() - record.began) * 1000, 1),
        actor=record.name,
        client=record.client.address,
    )
