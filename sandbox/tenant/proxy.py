"""/proxy/...: finds the connection, forwards what Nango forwards, answers as Graph answered."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from sandbox.tenant.connections import is_plain
from sandbox.tenant.errors import GraphError, NangoError, rejected_token
from sandbox.tenant.graph.batch import run_batch
from sandbox.tenant.graph.call import HOST
from sandbox.tenant.graph.service import VERSION, Graph, shape_of
from sandbox.tenant.wire import Request, Response

if TYPE_CHECKING:
    from sandbox.tenant.connections import Connection
    from sandbox.tenant.nango import Nango
    from sandbox.tenant.tenant import Tenant

_PREFIX = "nango-proxy-"
_BATCH = f"{VERSION}$batch"


class Proxy:
    """Nango's proxy. Nothing of a query is decoded or rebuilt on its way."""

    def __init__(self, nango: Nango, rng: Random) -> None:
        self._nango, self._rng = nango, rng
        self._graph = Graph()

    def answer(self, request: Request) -> Response:
        connection = self._connection(request.headers)
        headers = {
            name.removeprefix(_PREFIX): value
            for name, value in request.headers.items()
            if name.startswith(_PREFIX)
        }
        path = request.path.removeprefix("/proxy").lstrip("/")
        path = path.removeprefix(f"{HOST}/").lstrip("/")
        inner = Request(
            request.method,
            path,
            request.query,
            headers,
            request.body,
            connection_id=connection.connection_id,
        )
        # Changes from other threads wait, so that a page is of one moment.
        with connection.tenant.lock:
            response = self._scripted(inner) or self._run(connection, connection.tenant, inner)
        if self._nango.buffered and response.cut is not None:
            return Response(500, chunked=False)  # Nango had not the whole body to pass on
        if self._nango.buffered and response.status < 300:
            response.chunked = False
            kept = response.headers.get("content-type", "application/json")
            response.headers = {"content-type": kept}
        return response

    def _connection(self, headers: dict[str, str]) -> Connection:
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
            if headers.get(name) and not is_plain(headers[name])
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
        connection.refresh.demand()
        return connection

    def _scripted(self, request: Request) -> Response | None:
        """The hook's answer; before it has one, it may give the connection to another tenant."""
        self._nango.calls.graph[shape_of(request.path.removeprefix(VERSION))] += 1
        hook = self._nango.before_graph
        return hook(request) if hook else None

    def _run(self, connection: Connection, tenant: Tenant, request: Request) -> Response:
        """One Graph request, alone or from within a batch, with the token of one tenant."""
        faults = self._nango.faults
        if faults is None:
            return self._serve(connection, tenant, request)
        return faults.around(
            request,
            lambda: self._serve(connection, tenant, request),
            lambda error: self._graph.refuse(request, error),
        )

    def _serve(self, connection: Connection, tenant: Tenant, request: Request) -> Response:
        if connection.refresh.rejected and request.item is None:
            return self._graph.refuse(request, rejected_token())
        if request.path == _BATCH and request.item is None:
            return self._batch(connection, tenant, request)
        return self._graph.answer(tenant, request, frozenset(connection.refused))

    def _batch(self, connection: Connection, tenant: Tenant, request: Request) -> Response:
        """Nango sends one token, so all items are the same tenant's."""

        def between(done: int) -> None:
            if tenant.knobs.between_items:
                tenant.knobs.between_items(done)
            if tenant.knobs.mutations_between_items:
                tenant.mutate(tenant.knobs.mutations_between_items, self._rng)

        answers: list[Response] = []

        def run(item: Request) -> Response:
            item.connection_id = connection.connection_id
            answers.append(self._scripted(item) or self._run(connection, tenant, item))
            return answers[-1]

        try:
            body = run_batch(tenant, request, run, between, self._rng)
        except GraphError as error:
            return self._graph.refuse(request, error)
        return _on_one_way(answers, Response(200, body, self._graph.headers(request)))


def _on_one_way(answers: list[Response], response: Response) -> Response:
    """The reply to a batch; how an answer inside it travels, all of it travels."""
    response.delay = max((one.delay for one in answers), default=0.0)
    response.trickle = max((one.trickle for one in answers), default=0.0)
    response.cut = min((one.cut for one in answers if one.cut is not None), default=None)
    response.reset = any(one.reset for one in answers)
    return response
