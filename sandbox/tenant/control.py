"""The sandbox's own API, under /sandbox/ and behind the same key: truth, mutate, expire, calls."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sandbox.tenant.errors import NangoError
from sandbox.tenant.wire import Request, Response, json_response

if TYPE_CHECKING:
    from sandbox.tenant.connections import Connection
    from sandbox.tenant.nango import Nango


class Control:
    """What no real server has: ways to change a tenant and to ask for the truth."""

    def __init__(self, nango: Nango) -> None:
        self._nango = nango
        self._routes = {
            ("GET", "/sandbox/truth"): self._truth,
            ("GET", "/sandbox/calls"): self._calls,
            ("POST", "/sandbox/mutate"): self._mutate,
            ("POST", "/sandbox/expire"): self._expire,
        }

    def answer(self, request: Request) -> Response:
        act = self._routes.get((request.method, request.path))
        if act is None:
            raise NangoError(404, "not_found", f"No such call: {request.method} {request.path}")
        try:
            asked = json.loads(request.body or b"{}")
        except ValueError:
            asked = None
        if not isinstance(asked, dict):
            raise NangoError(400, "invalid_body", "The body has to be a JSON object.")
        return json_response(act(asked))

    def _chosen(self, asked: dict[str, Any]) -> list[Connection]:
        """The connection that is named, or all of them."""
        name = asked.get("connection_id")
        found = [c for c in self._nango.connections if name in (None, c.connection_id)]
        if name is not None and not found:
            raise NangoError(404, "unknown_connection", f"There is no connection {name}.")
        return found

    def _truth(self, _: dict[str, Any]) -> dict[str, Any]:
        return {
            c.connection_id: {
                "tenant_id": c.tenant.tenant_id,
                "resources": {
                    # As text: the sums are larger than what every JSON reader keeps exactly.
                    resource: {"count": truth.count, "checksum": str(truth.checksum)}
                    for resource, truth in c.tenant.truth().items()
                },
            }
            for c in self._nango.connections
        }

    def _calls(self, _: dict[str, Any]) -> dict[str, Any]:
        calls = self._nango.calls
        return {"total": calls.total, "kinds": dict(calls.kinds), "graph": dict(calls.graph)}

    def _mutate(self, asked: dict[str, Any]) -> dict[str, Any]:
        n = asked.get("n", 1)
        if not isinstance(n, int) or not 0 <= n <= 10**6:
            raise NangoError(400, "invalid_body", "'n' has to be a number up to a million.")
        chosen = self._chosen(asked)
        for connection in chosen:
            connection.tenant.mutate(n)
        return {"mutated": {c.connection_id: n for c in chosen}}

    def _expire(self, asked: dict[str, Any]) -> dict[str, Any]:
        chosen = self._chosen(asked)
        for connection in chosen:
            connection.tenant.expire_delta_tokens()
        return {"expired": [c.connection_id for c in chosen]}
