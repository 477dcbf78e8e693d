"""/proxy/...: finds the connection, forwards as Nango does, and returns Graph's response."""

from collections.abc import Callable
from random import Random
from typing import Protocol

from sandbox.tenant.directory.tenant import Tenant
from sandbox.tenant.errors import GraphError, NangoError, build_rejected_token
from sandbox.tenant.faults.injector import FaultInjector
from sandbox.tenant.graph.batch import run_batch
from sandbox.tenant.graph.call import GRAPH_HOST
from sandbox.tenant.graph.service import VERSION, GraphService, to_path_template
from sandbox.tenant.http import Request, Response
from sandbox.tenant.nango.call_log import CallCounts
from sandbox.tenant.nango.connections import NangoConnection, is_valid_connection_id

_PREFIX = "nango-proxy-"
_BATCH = f"{VERSION}$batch"


class ProxyHost(Protocol):
    """What the proxy asks of the Nango that it belongs to."""

    integrations: dict[str, str]
    calls: CallCounts
    faults: FaultInjector | None
    before_graph: Callable[[Request], Response | None] | None
    buffers_responses: bool

    def find(
        self, connection_id: str, provider_config_key: str = "entra"
    ) -> NangoConnection | None: ...


class NangoProxy:
    """Nango's proxy. Queries are neither decoded nor rebuilt."""

    def __init__(self, nango: ProxyHost, rng: Random) -> None:
        self._nango, self._rng = nango, rng
        self._graph = GraphService()

    def handle(self, request: Request) -> Response:
        connection = self._resolve_connection(request.headers)
        headers = {
            name.removeprefix(_PREFIX): value
            for name, value in request.headers.items()
            if name.startswith(_PREFIX)
        }
        path = request.path.removeprefix("/proxy").lstrip("/")
        path = path.removeprefix(f"{GRAPH_HOST}/").lstrip("/")
        inner = Request(
            request.method,
            path,
            request.query,
            headers,
            request.body,
            connection_id=connection.connection_id,
        )
        # Changes from other threads wait, so that a page is consistent.
        with connection.tenant.lock:
            response = self._run_hook(inner) or self._serve_or_fail(
                connection, connection.tenant, inner
            )
        if self._nango.buffers_responses and response.cut_after is not None:
            return Response(500, chunked=False)  # Nango did not receive the whole body
        if self._nango.buffers_responses and response.status < 300:
            response.chunked = False
            kept = response.headers.get("content-type", "application/json")
            response.headers = {"content-type": kept}
        return response

    def _resolve_connection(self, headers: dict[str, str]) -> NangoConnection:
        names = ("provider-config-key", "connection-id")
        missing = [name for name in names if not headers.get(name)]
        message = "Invalid input: expected string, received undefined"
        errors = [{"code": "invalid_type", "message": message, "path": [n]} for n in missing]
        if not headers.get("retries", "0").lstrip("-").isdigit():
            message = "Invalid input: expected number, received NaN"
            errors.append({"code": "invalid_type", "message": message, "path": ["retries"]})
        errors += [
            {"code": "invalid_format", "message": "Invalid string", "path": [name]}
            for name in names
            if headers.get(name) and not is_valid_connection_id(headers[name])
        ]
        if errors:
            raise NangoError(400, "invalid_headers", errors=errors)
        key, name = (headers[header] for header in names)
        if key not in self._nango.integrations:
            raise NangoError(
                404,
                "unknown_provider_config",
                "Provider config not found for the given provider config key. Please make sure the "
                "provider config exists in the Nango dashboard.",
            )
        connection = self._nango.find(name, key)
        if connection is None:
            raise NangoError(400, "server_error", "Failed to get connection")
        connection.refresh.require_token()
        return connection

    def _run_hook(self, request: Request) -> Response | None:
        """Return the hook's response, if any. The hook may replace the connection's tenant."""
        self._nango.calls.graph[to_path_template(request.path.removeprefix(VERSION))] += 1
        hook = self._nango.before_graph
        return hook(request) if hook else None

    def _serve_or_fail(
        self, connection: NangoConnection, tenant: Tenant, request: Request
    ) -> Response:
        """Answer one Graph request, alone or within a batch, with the token of one tenant."""
        faults = self._nango.faults
        if faults is None:
            return self._serve(connection, tenant, request)
        return faults.respond(
            request,
            lambda: self._serve(connection, tenant, request),
            lambda error: self._graph.render_error(request, error),
        )

    def _serve(self, connection: NangoConnection, tenant: Tenant, request: Request) -> Response:
        if connection.refresh.rejected and request.item is None:
            return self._graph.render_error(request, build_rejected_token())
        if request.path == _BATCH and request.item is None:
            return self._serve_batch(connection, tenant, request)
        return self._graph.handle(tenant, request, frozenset(connection.refused_resources))

    def _serve_batch(
        self, connection: NangoConnection, tenant: Tenant, request: Request
    ) -> Response:
        """Answer a batch. Nango sends one token, so all items are of the same tenant."""

        def between(done: int) -> None:
            if tenant.options.before_next_item:
                tenant.options.before_next_item(done)
            if tenant.options.mutations_between_items:
                tenant.mutate(tenant.options.mutations_between_items, self._rng)

        answers: list[Response] = []

        def run(item: Request) -> Response:
            item.connection_id = connection.connection_id
            answers.append(self._run_hook(item) or self._serve_or_fail(connection, tenant, item))
            return answers[-1]

        try:
            body = run_batch(tenant, request, run, between, self._rng)
        except GraphError as error:
            return self._graph.render_error(request, error)
        return _merge_delivery(answers, Response(200, body, self._graph.build_headers(request)))


def _merge_delivery(answers: list[Response], response: Response) -> Response:
    """Apply the delays and cuts of items to the response of the whole batch."""
    response.delay = max((one.delay for one in answers), default=0.0)
    response.trickle_delay = max((one.trickle_delay for one in answers), default=0.0)
    response.cut_after = min(
        (one.cut_after for one in answers if one.cut_after is not None), default=None
    )
    response.reset = any(one.reset for one in answers)
    return response
