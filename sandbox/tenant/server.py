"""Serves the simulation: an ASGI application under uvicorn, in its own thread."""

import asyncio
import logging
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Thread
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sandbox.tenant.control.api import ControlApi
from sandbox.tenant.http import Request, Response, json_response
from sandbox.tenant.nango.service import Nango

AsgiMessage = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[AsgiMessage]]
Send = Callable[[AsgiMessage], Awaitable[None]]

_log = logging.getLogger("sandbox.tenant")
_KEEP_ALIVE = 61  # Nango closes idle connections after about that many seconds
_PIECE_COUNT = 8
_NO_LINGER = struct.pack("ii", 1, 0)  # closing then sends a reset


class AsgiApp:
    """The ASGI application. `Nango.handle` implements the behaviour."""

    def __init__(self, nango: Nango) -> None:
        self._nango = nango

    async def __call__(self, scope: AsgiMessage, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(
            scope["method"],
            scope["raw_path"].decode("latin-1"),
            scope["query_string"].decode("latin-1"),
            {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]},
            await _read_body(receive),
        )
        response = self._handle(request)
        if response.delay:
            await asyncio.sleep(response.delay)
        if response.cut_after is None and not response.reset:
            await _send(response, send)
            return
        if response.cut_after is not None:
            await _send_part(response, send)
        if response.reset:
            _reset(scope["state"]["transport"])
            await asyncio.sleep(0)  # so that uvicorn has seen it
        # uvicorn closes the connection if a response is not completed.

    def _handle(self, request: Request) -> Response:
        try:
            return self._nango.handle(request)
        except Exception:  # noqa: BLE001  a test's hook may raise anything; Nango would answer too
            _log.exception("No answer to %s %s", request.method, request.path)
            return json_response({"error": {"code": "generic_error_support"}}, 500)


async def _read_body(receive: Receive) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body"):
        message = await receive()
        body += message.get("body", b"")
    return body


def _build_start(response: Response) -> AsgiMessage:
    headers = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in response.headers.items()]
    if not response.chunked:
        headers.append((b"content-length", str(len(response.body)).encode()))
    # Without a Content-Length the server sends the body in chunks, as Graph does.
    return {"type": "http.response.start", "status": response.status, "headers": headers}


def _split(body: bytes, count: int) -> Iterator[bytes]:
    size = max(-(-len(body) // count), 1)
    return (body[at : at + size] for at in range(0, len(body), size))


async def _send(response: Response, send: Send) -> None:
    await send(_build_start(response))
    if response.trickle_delay:
        for piece in _split(response.body, _PIECE_COUNT):
            await asyncio.sleep(response.trickle_delay)
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})
        return
    await send({"type": "http.response.body", "body": response.body})


async def _send_part(response: Response, send: Send) -> None:
    """Send the beginning of a response that is never completed."""
    await send(_build_start(response))
    part = response.body[: response.cut_after]
    if part:
        await send({"type": "http.response.body", "body": part, "more_body": True})


def _reset(transport: asyncio.Transport) -> None:
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()


class ResettableHttpProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, which gives the application the connection, to break it."""

    def on_message_begin(self) -> None:
        """Pass the connection to the new request."""
        super().on_message_begin()
        self.scope["state"]["transport"] = self.transport


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    url: str
    nango: Nango

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


def _listen(host: str, port: int) -> socket.socket:
    # With an explicit protocol: asyncio disables Nagle's algorithm only on such sockets.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    listener.listen(512)
    return listener


@contextmanager
def serve(nango: Nango, host: str = "127.0.0.1", port: int = 0) -> Iterator[Server]:
    """Serve during the block; port 0 picks a free one. The URL answers at once."""
    nango.mount("/sandbox/", ControlApi(nango).handle)
    listener = _listen(host, port)
    config = uvicorn.Config(
        AsgiApp(nango),
        http=ResettableHttpProtocol,
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        # Otherwise it logs every response that is cut off by the end of the server.
        log_level="critical",
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = Thread(target=server.run, args=([listener],), name="sandbox", daemon=True)
    thread.start()
    try:
        name = f"[{host}]" if ":" in host else host
        yield Server(f"http://{name}:{listener.getsockname()[1]}", nango)
    finally:
        # No client waits for responses any more.
        server.should_exit = server.force_exit = True
        thread.join(timeout=10)
        listener.close()
