"""The simulated Nango: keys, connections, the proxy, and Nango's own errors."""

from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from random import Random
from threading import RLock

from sandbox.tenant.defaults import KEY
from sandbox.tenant.directory.tenant import Tenant
from sandbox.tenant.errors import GraphError, NangoError
from sandbox.tenant.faults.injector import FaultInjector
from sandbox.tenant.http import Request, Response, build_nango_error, json_response
from sandbox.tenant.nango.api_key import READ_CREDENTIALS, check_key, check_scope, has_scope
from sandbox.tenant.nango.call_log import CallCounts, LoggedRequest
from sandbox.tenant.nango.connections import (
    Metadata,
    NangoConnection,
    get_connection,
    list_connections,
)
from sandbox.tenant.nango.metadata import set_metadata
from sandbox.tenant.nango.proxy import NangoProxy
from sandbox.tenant.nango.rate_limit import NangoRateLimit

RequestHook = Callable[[Request], Response | None]
RequestHandler = Callable[[Request], Response]

_MOUNTED = "mounted"
_MAX_TARGET = 16 * 1024
_DASHBOARD = b"<!doctype html><html><head><title>Nango</title></head><body></body></html>"


class Nango:
    """A simulated Nango server. `handle` answers requests; `server.serve` opens a port.

    `before_response` is called first for every request, `before_graph` for every Graph request,
    batch items included (`request.item`). Either may return a response in the simulation's place.
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
        """Calls in a window, reported in headers; None for no limit."""
        self.former_keys: set[str] = set()
        """Further keys that are still accepted, as while a key is being replaced."""
        self.enforce_rate_limit = False
        """Whether calls beyond the limit get 429."""
        self.rate_window = 60.0
        """Length of a window in seconds."""
        self.scopes: set[str] | None = None
        """The scopes of the key; None for all."""
        self.connections: list[NangoConnection] = []
        self.integrations: dict[str, str] = {}
        self.calls = CallCounts()
        self.log: deque[LoggedRequest] = deque(maxlen=log_size)
        """The latest requests, oldest first."""
        self.before_response: RequestHook | None = None
        self.before_graph: RequestHook | None = None
        self.faults: FaultInjector | None = None
        self.buffers_responses = False
        """Whether Graph sends a Content-Length, so that few headers of a success are passed on."""
        self.on_change: Callable[[], None] = lambda: None
        """Called after each change by the control API or a ticker, before the next request."""
        self.disconnected: list[NangoConnection] = []
        """Connections that the control API removed from the list."""
        self.lock = RLock()
        self._connections_by_id: dict[tuple[str, str], NangoConnection] = {}
        self._next_id = 1
        self._limiter = NangoRateLimit()
        self._mounted: dict[str, RequestHandler] = {}
        self._proxy = NangoProxy(self, Random(seed))

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
    ) -> NangoConnection:
        """Connect a tenant. Each connection is a minute newer than the one before."""
        with self.lock:
            if self.find(connection_id, provider_config_key):
                raise ValueError(f"{connection_id} is connected already")
            born = datetime(2026, 1, 5, 9, tzinfo=UTC) + timedelta(minutes=self._next_id)
            fraction = ("", ".12", ".004518")[self._next_id % 3]
            connection = NangoConnection(
                id=self._next_id,
                connection_id=connection_id,
                provider_config_key=provider_config_key,
                provider=provider,
                tenant=tenant,
                created=created or f"{born:%Y-%m-%dT%H:%M:%S}{fraction}+00:00",
                metadata=metadata,
                refused_resources=set(refused),
            )
            self._next_id += 1
            self.integrations[provider_config_key] = provider
            self.connections.append(connection)
            self._connections_by_id[connection_id, provider_config_key] = connection
            return connection

    def remove_connection(self, connection_id: str, provider_config_key: str = "entra") -> None:
        """Remove a connection; its integration stays."""
        with self.lock:
            connection = self.find(connection_id, provider_config_key)
            if connection is None:
                raise LookupError(f"There is no connection {connection_id}.")
            self.connections.remove(connection)
            del self._connections_by_id[connection_id, provider_config_key]

    def disconnect(self, connection: NangoConnection) -> None:
        """Remove a connection from the list until `reconnect`."""
        with self.lock:
            self.remove_connection(connection.connection_id, connection.provider_config_key)
            self.disconnected.append(connection)

    def reconnect(self, connection: NangoConnection) -> None:
        with self.lock:
            self.disconnected.remove(connection)
            self.connections.append(connection)
            self._connections_by_id[connection.connection_id, connection.provider_config_key] = (
                connection
            )

    def find(
        self, connection_id: str, provider_config_key: str = "entra"
    ) -> NangoConnection | None:
        return self._connections_by_id.get((connection_id, provider_config_key))

    # -- requests -------------------------------------------------------------------------------

    def mount(self, prefix: str, handler: RequestHandler) -> None:
        """Answer paths with a prefix by ``handler``: behind the key, uncounted and unlimited."""
        self._mounted[prefix] = handler

    def handle(self, request: Request) -> Response:
        """Answer one request. Safe to call from any thread."""
        with self.lock:
            response = self._dispatch(request)
            if self.log.maxlen:
                self.log.append(LoggedRequest(request, response.status))
            return response

    def _dispatch(self, request: Request) -> Response:
        for prefix, handler in self._mounted.items():
            if request.path.startswith(prefix):
                return self._save_before_response(
                    request, self._authorize_and_run(request, handler, _MOUNTED)
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
            self._authorize_and_run(request, act, kind)
            if kind not in ("health", "other")
            else act(request)
        )

    def _route(self, request: Request) -> tuple[str, Callable[[Request], Response]]:
        path = request.path
        if path in ("/health", "/ready"):
            return "health", lambda _: json_response({"result": "ok"})
        if path == "/proxy" or path.startswith("/proxy/"):
            return "proxy", self._proxy.handle
        if request.method in ("POST", "PATCH") and path == "/connections/metadata":
            return "metadata", lambda asked: self._save_before_response(
                asked, set_metadata(asked, self.find)
            )
        if request.method == "GET" and path == "/connections":
            return "connections", self._list_connections
        if request.method == "GET" and path.startswith("/connections/"):
            return "connection", self._get_connection
        return "other", self._serve_dashboard

    def _authorize_and_run(
        self, request: Request, act: Callable[[Request], Response], kind: str
    ) -> Response:
        """Return the action's response if the key permits it, with the rate limit's headers."""
        try:
            check_key(request.headers.get("authorization"), {self.key, *self.former_keys})
        except NangoError as error:
            return build_nango_error(error)
        if kind == _MOUNTED:
            return _respond_or_refuse(request, act)
        headers, refusal = self._apply_rate_limit(request)
        response = refusal or _respond_or_refuse(
            request, act, lambda: check_scope(self.scopes, kind)
        )
        response.headers = headers | response.headers
        return response

    def _save_before_response(self, request: Request, response: Response) -> Response:
        """Return the response after its changes have been saved."""
        if request.method != "GET" and response.status < 300:
            self.on_change()
        return response

    def _apply_rate_limit(self, request: Request) -> tuple[dict[str, str], Response | None]:
        """Return the limit's headers, and the 429 for a call beyond the limit."""
        if self.rate_limit is None:
            return {}, None
        self._limiter.count_call(self.rate_window)
        refusal = self._limiter.build_refusal(request, self.rate_limit)
        return self._limiter.build_headers(
            self.rate_limit
        ), refusal if self.enforce_rate_limit else None

    def _list_connections(self, request: Request) -> Response:
        return self._inject_faults(
            request, lambda: json_response(list_connections(self.connections, request.query))
        )

    def _get_connection(self, request: Request) -> Response:
        name = request.path.removeprefix("/connections/")
        return self._inject_faults(
            request,
            lambda: json_response(
                get_connection(
                    self.connections,
                    self.integrations,
                    name,
                    request.query,
                    with_credentials=has_scope(self.scopes, READ_CREDENTIALS),
                )
            ),
        )

    def _inject_faults(self, request: Request, answer: Callable[[], Response]) -> Response:
        return (
            self.faults.respond(request, answer, _reject_graph_error) if self.faults else answer()
        )

    def _serve_dashboard(self, request: Request) -> Response:
        """Return the dashboard for unknown GET paths, so that a wrong URL looks like success."""
        if request.method == "GET":
            return Response(200, _DASHBOARD, {"content-type": "text/html; charset=UTF-8"})
        return build_nango_error(NangoError(404, "not_found", "Not found"))


def _respond_or_refuse(
    request: Request, act: Callable[[Request], Response], check: Callable[[], None] | None = None
) -> Response:
    try:
        if check:
            check()
        return act(request)
    except NangoError as error:
        return build_nango_error(error)


def _reject_graph_error(error: GraphError) -> Response:
    raise LookupError(f"{error.code} is Graph's, and this is no call of Graph.")
