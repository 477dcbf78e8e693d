"""Nango in front of the tenants: keys, connections, the proxy, and Nango's own errors."""

import re
from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from random import Random
from threading import RLock
from time import time

from sandbox.tenant.calls import Calls, Logged
from sandbox.tenant.connections import Connection, Metadata, get_connection, list_connections
from sandbox.tenant.control import Control
from sandbox.tenant.errors import NangoError
from sandbox.tenant.proxy import Proxy
from sandbox.tenant.tenant import Tenant
from sandbox.tenant.wire import Request, Response, json_response

KEY = "5a4d0b0c-7e1a-4c3e-9d2b-1f0e6c8a2b47"
"""The key of a server that was not given one."""

Hook = Callable[[Request], Response | None]

_UUID4 = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.IGNORECASE
)
_WINDOW = 60
_MAX_TARGET = 16 * 1024
_DASHBOARD = b"<!doctype html><html><head><title>Nango</title></head><body></body></html>"


class Nango:
    """A simulated Nango server. `handle` is all of it; `server.serve` puts it on a port.

    `before_response` sees every request first, `before_graph` every Graph request, items of a
    batch included (`request.item`); either may answer in the simulation's place.
    """

    def __init__(
        self,
        key: str = KEY,
        *,
        rate_limit: int | None = 200,
        log_size: int = 1000,
        seed: int = 1,
    ) -> None:
        self.key, self.rate_limit = key, rate_limit
        self.connections: list[Connection] = []
        self.integrations: dict[str, str] = {}
        self.calls = Calls()
        self.log: deque[Logged] = deque(maxlen=log_size)
        """The latest requests, oldest first."""
        self.before_response: Hook | None = None
        self.before_graph: Hook | None = None
        self.buffered = False
        """Upstream answers with a Content-Length: only a few headers of a success survive."""
        self.lock = RLock()
        self._named: dict[tuple[str, str], Connection] = {}
        self._next_id = 1
        self._window, self._spent = 0, 0
        self._control = Control(self)
        self._proxy = Proxy(self, Random(seed))

    # -- connections ----------------------------------------------------------------------------

    def add_connection(
        self,
        connection_id: str,
        tenant: Tenant,
        provider_config_key: str = "entra",
        provider: str = "microsoft-oauth2-cc",
        metadata: Metadata | None = None,
        *,
        created: str | None = None,
        refused: Iterable[str] = (),
    ) -> Connection:
        """Connect a tenant. Each connection is a minute younger than the one before."""
        with self.lock:
            if self.find(connection_id, provider_config_key):
                raise ValueError(f"{connection_id} is connected already")
            born = datetime(2026, 1, 5, 9, tzinfo=UTC) + timedelta(minutes=self._next_id)
            fraction = ("", ".12", ".004518")[self._next_id % 3]
            connection = Connection(
                id=self._next_id,
                connection_id=connection_id,
                provider_config_key=provider_config_key,
                provider=provider,
                tenant=tenant,
                created=created or f"{born:%Y-%m-%dT%H:%M:%S}{fraction}+00:00",
                metadata=metadata,
                refused=set(refused),
            )
            self._next_id += 1
            self.integrations[provider_config_key] = provider
            self.connections.append(connection)
            self._named[connection_id, provider_config_key] = connection
            return connection

    def remove_connection(self, connection_id: str, provider_config_key: str = "entra") -> None:
        """Disconnect; the integration stays."""
        with self.lock:
            connection = self.find(connection_id, provider_config_key)
            if connection is None:
                raise LookupError(f"There is no connection {connection_id}.")
            self.connections.remove(connection)
            del self._named[connection_id, provider_config_key]

    def find(self, connection_id: str, provider_config_key: str = "entra") -> Connection | None:
        return self._named.get((connection_id, provider_config_key))

    # -- requests -------------------------------------------------------------------------------

    def handle(self, request: Request) -> Response:
        """Answer one request; safe to call from any thread."""
        with self.lock:
            response = self._answer(request)
            if self.log.maxlen:
                self.log.append(Logged(request, response.status))
            return response

    def _answer(self, request: Request) -> Response:
        if request.path.startswith("/sandbox/"):
            return self._guarded(request, self._control.answer)
        self.calls.total += 1
        kind, act = self._route(request)
        self.calls.kinds[kind] += 1
        scripted = self.before_response(request) if self.before_response else None
        if scripted:
            return scripted
        if len(request.target) > _MAX_TARGET:
            return Response(431, chunked=False)
        return self._guarded(request, act) if kind not in ("health", "other") else act(request)

    def _route(self, request: Request) -> tuple[str, Callable[[Request], Response]]:
        path = request.path
        if path in ("/health", "/ready"):
            return "health", lambda _: json_response({"result": "ok"})
        if path == "/proxy" or path.startswith("/proxy/"):
            return "proxy", self._proxy.answer
        if request.method == "GET" and path == "/connections":
            return "connections", self._list
        if request.method == "GET" and path.startswith("/connections/"):
            return "connection", self._get
        return "other", self._dashboard

    def _guarded(self, request: Request, act: Callable[[Request], Response]) -> Response:
        """The action's reply if the key is right, with the rate limit's headers."""
        try:
            self._check_key(request.headers.get("authorization"))
        except NangoError as error:
            return _refusal(error)
        try:
            response = act(request)
        except NangoError as error:
            response = _refusal(error)
        response.headers = self._rate_headers() | response.headers
        return response

    def _check_key(self, header: str | None) -> None:
        if not header:
            code, what = "missing_auth_header", "The request is missing the Authorization header."
        elif not header.startswith("Bearer ") or " " in header.removeprefix("Bearer ").strip():
            code, what = "malformed_auth_header", "The Authorization header is malformed."
        elif not _UUID4.fullmatch(header.removeprefix("Bearer ").strip()):
            code, what = "invalid_secret_key_format", "The provided secret key is not a UUID v4."
        elif header.removeprefix("Bearer ").strip() != self.key:
            code = "unknown_account"
            what = "The provided authorization header does not match any account."
        else:
            return
        raise NangoError(401, code, f"Authentication failed. {what}", payload={})

    def _rate_headers(self) -> dict[str, str]:
        if self.rate_limit is None:
            return {}
        window = int(time()) // _WINDOW
        if window != self._window:
            self._window, self._spent = window, 0
        self._spent += 1
        return {
            "x-ratelimit-limit": str(self.rate_limit),
            "x-ratelimit-remaining": str(max(self.rate_limit - self._spent, 0)),
            "x-ratelimit-reset": str((window + 1) * _WINDOW),
        }

    def _list(self, request: Request) -> Response:
        return json_response(list_connections(self.connections, request.query))

    def _get(self, request: Request) -> Response:
        name = request.path.removeprefix("/connections/")
        return json_response(
            get_connection(self.connections, self.integrations, name, request.query)
        )

    def _dashboard(self, request: Request) -> Response:
        """Unknown GET paths show the dashboard, so a wrong base URL looks like success."""
        if request.method == "GET":
            return Response(200, _DASHBOARD, {"content-type": "text/html; charset=UTF-8"})
        return _refusal(NangoError(404, "not_found", "Not found"))


def _refusal(error: NangoError) -> Response:
    content: dict[str, object] = {"code": error.code}
    if error.message:
        content["message"] = error.message
    return json_response({"error": content | error.extra}, error.status)
