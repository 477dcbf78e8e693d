"""Nango in front of the tenants: keys, connections, the proxy, and Nango's own errors."""

from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from random import Random
from threading import RLock

from sandbox.tenant.access import READ_CREDENTIALS, check_key, check_scope, may
from sandbox.tenant.calls import Calls, Logged
from sandbox.tenant.connections import Connection, Metadata, get_connection, list_connections
from sandbox.tenant.control import Control
from sandbox.tenant.errors import GraphError, NangoError
from sandbox.tenant.faults import Faults
from sandbox.tenant.limiter import Limiter
from sandbox.tenant.metadata import set_metadata
from sandbox.tenant.proxy import Proxy
from sandbox.tenant.tenant import Tenant
from sandbox.tenant.wire import Request, Response, json_response, nango_refusal

KEY = "5a4d0b0c-7e1a-4c3e-9d2b-1f0e6c8a2b47"
"""The key of a server that was not given one."""

Hook = Callable[[Request], Response | None]

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
        """Calls a window, told in headers; None: off."""
        self.enforce_rate_limit = False
        """Whether calls beyond the limit are refused with 429."""
        self.rate_window = 60.0
        """Seconds."""
        self.scopes: set[str] | None = None
        """What the key may do; None: everything."""
        self.connections: list[Connection] = []
        self.integrations: dict[str, str] = {}
        self.calls = Calls()
        self.log: deque[Logged] = deque(maxlen=log_size)
        """The latest requests, oldest first."""
        self.before_response: Hook | None = None
        self.before_graph: Hook | None = None
        self.faults: Faults | None = None
        self.buffered = False
        """Upstream answers with a Content-Length: only a few headers of a success survive."""
        self.changed: Callable[[], None] = lambda: None
        """Called after a change by the control API or a ticker, before the next request."""
        self.disconnected: list[Connection] = []
        """Connections that the control API took out of the list."""
        self.lock = RLock()
        self._named: dict[tuple[str, str], Connection] = {}
        self._next_id = 1
        self._limiter = Limiter()
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

    def disconnect(self, connection: Connection) -> None:
        """Take a connection out of the list until `reconnect`."""
        with self.lock:
            self.remove_connection(connection.connection_id, connection.provider_config_key)
            self.disconnected.append(connection)

    def reconnect(self, connection: Connection) -> None:
        with self.lock:
            self.disconnected.remove(connection)
            self.connections.append(connection)
            self._named[connection.connection_id, connection.provider_config_key] = connection

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
            return self._sent_once_kept(
                request, self._guarded(request, self._control.answer, "sandbox")
            )
        self.calls.total += 1
        kind, act = self._route(request)
        self.calls.kinds[kind] += 1
        scripted = self.before_response(request) if self.before_response else None
        if scripted:
            return scripted
        if len(request.target) > _MAX_TARGET:
            return Response(431, chunked=False)
        return (
            self._guarded(request, act, kind) if kind not in ("health", "other") else act(request)
        )

    def _route(self, request: Request) -> tuple[str, Callable[[Request], Response]]:
        path = request.path
        if path in ("/health", "/ready"):
            return "health", lambda _: json_response({"result": "ok"})
        if path == "/proxy" or path.startswith("/proxy/"):
            return "proxy", self._proxy.answer
        if request.method in ("POST", "PATCH") and path == "/connections/metadata":
            return "metadata", lambda asked: self._sent_once_kept(
                asked, set_metadata(asked, self.find)
            )
        if request.method == "GET" and path == "/connections":
            return "connections", self._list
        if request.method == "GET" and path.startswith("/connections/"):
            return "connection", self._get
        return "other", self._dashboard

    def _guarded(self, request: Request, act: Callable[[Request], Response], kind: str) -> Response:
        """The action's reply if the key may have it, with the rate limit's headers."""
        try:
            check_key(request.headers.get("authorization"), self.key)
        except NangoError as error:
            return nango_refusal(error)
        if kind == "sandbox":
            return _or_refusal(request, act)
        headers, refusal = self._spend(request)
        response = refusal or _or_refusal(request, act, lambda: check_scope(self.scopes, kind))
        response.headers = headers | response.headers
        return response

    def _sent_once_kept(self, request: Request, response: Response) -> Response:
        """The answer, sent once what it changed is kept."""
        if request.method != "GET" and response.status < 300:
            self.changed()
        return response

    def _spend(self, request: Request) -> tuple[dict[str, str], Response | None]:
        """The limit's headers, and the 429 of a call that is one too many."""
        if self.rate_limit is None:
            return {}, None
        self._limiter.spend(self.rate_window)
        refusal = self._limiter.refusal(request, self.rate_limit)
        return self._limiter.headers(self.rate_limit), refusal if self.enforce_rate_limit else None

    def _list(self, request: Request) -> Response:
        return self._spoiled(
            request, lambda: json_response(list_connections(self.connections, request.query))
        )

    def _get(self, request: Request) -> Response:
        name = request.path.removeprefix("/connections/")
        return self._spoiled(
            request,
            lambda: json_response(
                get_connection(
                    self.connections,
                    self.integrations,
                    name,
                    request.query,
                    with_credentials=may(self.scopes, READ_CREDENTIALS),
                )
            ),
        )

    def _spoiled(self, request: Request, answer: Callable[[], Response]) -> Response:
        return self.faults.around(request, answer, _not_graph) if self.faults else answer()

    def _dashboard(self, request: Request) -> Response:
        """Unknown GET paths show the dashboard, so a wrong base URL looks like success."""
        if request.method == "GET":
            return Response(200, _DASHBOARD, {"content-type": "text/html; charset=UTF-8"})
        return nango_refusal(NangoError(404, "not_found", "Not found"))


def _or_refusal(
    request: Request, act: Callable[[Request], Response], check: Callable[[], None] | None = None
) -> Response:
    try:
        if check:
            check()
        return act(request)
    except NangoError as error:
        return nango_refusal(error)


def _not_graph(error: GraphError) -> Response:
    raise LookupError(f"{error.code} is Graph's, and this is no call of Graph.")
