"""The ASGI application: the router that the table makes, and what holds for every request."""

import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import anyio
from anyio import to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.core.log import get_logger
from worker.web.client_address import RequestOrigin, identify_client
from worker.web.context import WebContext
from worker.web.decode import MAX_BODY_BYTES
from worker.web.endpoint import Endpoint, Exemption
from worker.web.host import is_known_host
from worker.web.problem import RequestRefused, refuse_internal, refuse_unavailable
from worker.web.respond import Answered, RawRequest, answer_request, build_problem_response

DEADLINE_SECONDS: Final = 10.0

_RECORD: Final = "tenant_mirror"
"""Key of a request's record in its scope."""
_QUIET: Final = (Exemption.WORDS, Exemption.LOCAL)
"""Routes that monitors ask every few seconds; their good answers are not logged."""
_LOGGED_METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_HEADERS: Final = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)
_HSTS: Final = (b"strict-transport-security", b"max-age=31536000")


@dataclass
class RequestRecord:
    """What becomes known of a request, for its log line."""

    request_id: str
    client: RequestOrigin
    began: float
    endpoint: Endpoint | None = None
    name: str | None = None
    status: int | None = None


def build_app(context: WebContext) -> ASGIApp:
    """Return the application that serves the routes of the context."""
    routes = [
        Route(one.path, _build_handler(context, one), methods=[one.method], name=one.name)
        for one in context.endpoints
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _answer_unknown})
    # A redirect would be made from the Host header.
    app.router.redirect_slashes = False
    return RequestGate(app, context)


def _build_handler(
    context: WebContext, endpoint: Endpoint
) -> Callable[[Request], Awaitable[Response]]:
    threads = context.health_threads if endpoint.access in _QUIET else context.threads

    async def handle(request: Request) -> Response:
        record: RequestRecord = request.scope[_RECORD]
        record.endpoint = endpoint
        try:
            body = await _read_body(request) if endpoint.body is not None else b""
        except ClientDisconnect:
            return Response(status_code=400)  # the client has gone
        work = partial(answer_request, context, endpoint, _build_raw(request, body))
        if endpoint.runs_inline:
            answered: Answered = work()
        else:
            # Beyond the deadline its thread ends by itself: statements have a time limit.
            answered = await to_thread.run_sync(work, limiter=threads, abandon_on_cancel=True)
        record.name = answered.name
        return answered.response

    return handle


def _build_raw(request: Request, body: bytes) -> RawRequest:
    scope = request.scope
    record: RequestRecord = scope[_RECORD]
    headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
    return RawRequest(
        record.request_id, record.client, request.path_params, scope["query_string"], body, headers
    )


async def _read_body(request: Request) -> bytes:
    received = bytearray()
    async for chunk in request.stream():
        received += chunk
        if len(received) > MAX_BODY_BYTES:
            raise HTTPException(413)
    return bytes(received)


async def _answer_unknown(request: Request, error: Exception) -> Response:
    """Answer what the router does not serve."""
    assert isinstance(error, HTTPException)
    match error.status_code:
        case 404:
            refusal = RequestRefused(
                404, "not-found", "there is no such route; see /api/openapi.json"
            )
        case 405:
            allowed = ", ".join(sorted((error.headers or {})["Allow"].split(", ")))
            refusal = RequestRefused(
                405,
                "method-not-allowed",
                f"this route allows {allowed}",
                headers={"Allow": allowed},
            )
        case 413:
            refusal = _refuse_body()
        case _:
            refusal = refuse_internal()
    return build_problem_response(refusal, request.scope[_RECORD].request_id)


def _refuse_body() -> RequestRefused:
    return RequestRefused(413, "too-large", f"a body has at most {MAX_BODY_BYTES} bytes")


class RequestGate:
    """Gives each request an id, bounds and a log line, and each response its headers."""

    def __init__(self, app: ASGIApp, context: WebContext) -> None:
        self._app = app
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http", scope["type"]
        record = RequestRecord(uuid.uuid4().hex, self._identify(scope), time.monotonic())
        scope[_RECORD] = record
        answer = partial(_send_with_headers, record, send)
        try:
            with anyio.fail_after(DEADLINE_SECONDS):
                refusal = self._check(scope)
                if refusal is None:
                    await self._app(scope, receive, answer)
                else:
                    await build_problem_response(refusal, record.request_id)(scope, receive, answer)
        except TimeoutError:
            if record.status is not None:
                raise
            refusal = refuse_unavailable(f"this took longer than {DEADLINE_SECONDS:.0f} seconds")
            await build_problem_response(refusal, record.request_id)(scope, receive, answer)
        finally:
            _log_request(record, scope["method"])

    def _check(self, scope: Scope) -> RequestRefused | None:
        if not is_known_host(scope["headers"], self._context.host_names):
            return RequestRefused(
                421,
                "unknown-host",
                "this server is not known by that name; TENANT_MIRROR_WEB_NAMES lists its names",
            )
        return _refuse_body() if _get_length(scope) > MAX_BODY_BYTES else None

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
        headers.append((b"x-request-id", record.request_id.encode()))
        if record.client.is_encrypted:
            headers.append(_HSTS)
        message = {**message, "headers": headers}
    await send(message)


def _get_length(scope: Scope) -> int:
    """Return the announced length of the body; 0 if none is announced."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value[:20])
    return 0


def _log_request(record: RequestRecord, method: str) -> None:
    """Log the route's template, never the path or query that was sent."""
    endpoint = record.endpoint
    is_quiet = endpoint is not None and endpoint.access in _QUIET and (record.status or 500) < 400
    log = get_logger()
    (log.debug if is_quiet else log.info)(
        "request",
        request_id=record.request_id,
        method=method if method in _LOGGED_METHODS else "other",
        route=endpoint.path if endpoint else None,
        status=record.status,
        milliseconds=round((time.monotonic() - record.began) * 1000, 1),
        actor=record.name,
        client=record.client.address,
    )
