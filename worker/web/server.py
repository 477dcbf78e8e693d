"""The HTTP server of the process: uvicorn, with bounds, until it is stopped."""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from typing import Any, Final, cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from worker.core.errors import ConfigurationError
from worker.core.log import get_logger
from worker.core.process.heartbeat import write_heartbeat
from worker.core.settings import Settings
from worker.web.client_address import is_loopback

HEARTBEAT_NAME: Final = "web"
SHUTDOWN_SECONDS: Final = 5
"""How long a stop waits for requests that are being answered."""
_HEARTBEAT_SECONDS: Final = 5
_HEAD_SECONDS: Final = 10.0
"""How long a client may take until it has sent the head of its first request."""
_MAX_CONNECTIONS: Final = 500
_MAX_HEAD_BYTES: Final = 32 * 1024
_BACKLOG: Final = 128
_POLL_SECONDS: Final = 0.1


@dataclass(frozen=True)
class Listener:
    """A socket that listens, and where."""

    socket: socket.socket
    host: str
    port: int
    is_encrypted: bool

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.is_encrypted else 'http'}://{host}:{self.port}"

    @property
    def is_local(self) -> bool:
        return is_loopback(self.host)


def open_listener(host: str, port: int, settings: Settings) -> Listener:
    """Bind and listen. Raises ConfigurationError."""
    is_encrypted = settings.web_certificate is not None
    if is_encrypted != (settings.web_certificate_key is not None):
        raise ConfigurationError(
            "set both TENANT_MIRROR_WEB_CERTIFICATE and TENANT_MIRROR_WEB_CERTIFICATE_KEY, or none"
        )
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        made = socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen at {host}:{port}: {error.strerror or type(error).__name__}"
        ) from None
    bound = made.getsockname()
    return Listener(made, bound[0], bound[1], is_encrypted)


def check_exposure(listener: Listener, settings: Settings, has_tokens: Callable[[], bool]) -> None:
    """Raise ConfigurationError for an address that others reach without protection."""
    if listener.is_local:
        return
    if not (listener.is_encrypted or settings.web_proxies or settings.web_allow_http == "yes"):
        raise ConfigurationError(
            f"{listener.host} can be reached from other hosts, and tokens would be sent without "
            "encryption; set TENANT_MIRROR_WEB_CERTIFICATE, or list the reverse proxy that does "
            "HTTPS in TENANT_MIRROR_WEB_PROXIES, or set TENANT_MIRROR_WEB_ALLOW_HTTP=yes"
        )
    if not has_tokens():
        raise ConfigurationError(
            f"{listener.host} can be reached from other hosts, and there is no token that could be "
            "used; run 'tenant-mirror tokens create NAME --scope read', or set "
            "TENANT_MIRROR_WEB_TOKEN"
        )


def serve_app(app: ASGIApp, listener: Listener, settings: Settings, stop: Event) -> None:
    """Serve until ``stop`` is set, then end requests within ``SHUTDOWN_SECONDS``."""
    certificate, key = settings.web_certificate, settings.web_certificate_key
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http=_BoundedProtocol,
        ws="none",
        interface="asgi3",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=_MAX_CONNECTIONS,
        timeout_keep_alive=15,
        timeout_notify=_HEARTBEAT_SECONDS,
        callback_notify=_note_work,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        h11_max_incomplete_event_size=_MAX_HEAD_BYTES,
        ssl_certfile=certificate,
        ssl_keyfile=str(key) if key else None,
    )
    try:
        config.load()
    except OSError as error:  # of ssl, too
        raise ConfigurationError(
            "TENANT_MIRROR_WEB_CERTIFICATE or TENANT_MIRROR_WEB_CERTIFICATE_KEY cannot be used: "
            f"{error.strerror or type(error).__name__}"
        ) from None
    get_logger().info("serving", url=listener.url)
    asyncio.run(_serve_until(stop, uvicorn.Server(config), listener.socket))


async def _serve_until(stop: Event, server: uvicorn.Server, listening: socket.socket) -> None:
    """Serve until another thread sets ``stop``, or a signal comes, which uvicorn catches."""
    serving = asyncio.create_task(server.serve([listening]))
    while not stop.is_set() and not serving.done():  # noqa: ASYNC110 - set outside the loop
        await asyncio.sleep(_POLL_SECONDS)
    server.should_exit = True
    await serving


async def _note_work() -> None:
    write_heartbeat(HEARTBEAT_NAME)


class _BoundedProtocol(H11Protocol):
    """Closes connections whose client does not send a request in time."""

    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(_HEAD_SECONDS, self._close_if_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
        super().connection_lost(exc)

    def _close_if_idle(self) -> None:
        if cast(Any, self.cycle) is None:
            self.transport.close()
