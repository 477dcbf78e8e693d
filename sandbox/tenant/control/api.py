"""The sandbox's control API, under /sandbox/ and protected by the same key.

Truth, random changes, expiries and faults; ``customers`` has the acts on one customer.
"""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from sandbox.tenant.control import customers
from sandbox.tenant.errors import NangoError
from sandbox.tenant.faults.fault_kinds import BROKEN, EXPIRIES, TRANSIENT
from sandbox.tenant.faults.injector import FaultInjector
from sandbox.tenant.http import Request, Response, json_response
from sandbox.tenant.nango.connections import NangoConnection
from sandbox.tenant.nango.service import Nango

Action = Callable[[dict[str, Any]], dict[str, Any]]


class ControlApi:
    """Changes tenants and reports the truth, which no real server can."""

    def __init__(self, nango: Nango) -> None:
        self._nango = nango
        self._routes: dict[tuple[str, str], Action] = {
            ("GET", "/sandbox/truth"): self._report_truth,
            ("GET", "/sandbox/calls"): self._report_calls,
            ("POST", "/sandbox/mutate"): self._mutate,
            ("POST", "/sandbox/expire"): self._expire,
            ("GET", "/sandbox/faults"): self._report_faults,
            ("POST", "/sandbox/faults"): self._set_faults,
            ("GET", "/sandbox/customers"): lambda _: customers.list_customers(nango),
            **{
                ("POST", f"/sandbox/{name}"): partial(act, nango)
                for name, act in _CUSTOMER_ACTIONS.items()
            },
        }

    def handle(self, request: Request) -> Response:
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

    def _select_connections(self, asked: dict[str, Any]) -> list[NangoConnection]:
        """Return the named connection, or all."""
        name = asked.get("connection_id")
        return (
            list(self._nango.connections)
            if name is None
            else customers.find_connections(self._nango, name)
        )

    def _report_truth(self, _: dict[str, Any]) -> dict[str, Any]:
        return {
            c.connection_id: {
                "tenant_id": c.tenant.tenant_id,
                "resources": {
                    # As text: many JSON parsers do not keep numbers of this size exactly.
                    resource: {"count": truth.count, "checksum": str(truth.checksum)}
                    for resource, truth in c.tenant.truth().items()
                },
            }
            for c in self._nango.connections
        }

    def _report_calls(self, _: dict[str, Any]) -> dict[str, Any]:
        calls = self._nango.calls
        return {"total": calls.total, "kinds": dict(calls.kinds), "graph": dict(calls.graph)}

    def _mutate(self, asked: dict[str, Any]) -> dict[str, Any]:
        n = asked.get("n", 1)
        if not isinstance(n, int) or not 0 <= n <= 10**6:
            raise NangoError(400, "invalid_body", "'n' has to be a number up to a million.")
        chosen = self._select_connections(asked)
        for connection in chosen:
            connection.tenant.mutate(n)
        return {"mutated": {c.connection_id: n for c in chosen}}

    def _expire(self, asked: dict[str, Any]) -> dict[str, Any]:
        chosen = self._select_connections(asked)
        for connection in chosen:
            connection.tenant.expire_delta_tokens()
        return {"expired": [c.connection_id for c in chosen]}

    def _report_faults(self, _: dict[str, Any]) -> dict[str, Any]:
        faults = self._nango.faults
        if faults is None:
            return {"rate": 0.0, "hits": {}}
        return {
            "seed": faults.seed,
            "rate": faults.rate,
            "item_rate": faults.item_rate,
            "connections": faults.connections,
            "kinds": list(faults.kinds),
            "hits": dict(faults.hits),
        }

    def _set_faults(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Inject random faults from now on; none with a rate of 0."""
        self._nango.faults = _parse_faults(asked)
        return self._report_faults(asked)


_CUSTOMER_ACTIONS = {
    "delete": customers.delete_objects,
    "restore": customers.restore_objects,
    "permit": customers.set_permission,
    "license": customers.set_licensed,
    "consent": customers.set_consent,
    "connect": customers.set_connected,
}
_KIND_SETS = {"transient": TRANSIENT, "expiries": EXPIRIES, "broken": BROKEN}


def _is_instance_of(*kinds: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kinds) and not isinstance(value, bool)


def _is_share(value: Any) -> bool:
    return _is_instance_of(int, float)(value) and 0 <= value <= 1


def _is_delay(value: Any) -> bool:
    return _is_instance_of(int, float)(value) and 0 <= value <= 600


_FAULT_PARAMETERS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "seed": (_is_instance_of(int), "a whole number"),
    "rate": (_is_share, "a number from 0 to 1"),
    "item_rate": (_is_share, "a number from 0 to 1"),
    "kinds": (_is_instance_of(list), "a list of names"),
    "connections": (lambda value: isinstance(value, bool), "true or false"),
    "retry_after": (_is_delay, "a number of seconds up to 600"),
    "stall": (_is_delay, "a number of seconds up to 600"),
}


def _parse_faults(asked: dict[str, Any]) -> FaultInjector | None:
    for name, value in asked.items():
        fits, wanted = _FAULT_PARAMETERS.get(name, (None, ""))
        if fits is None:
            raise NangoError(400, "invalid_body", f"'{name}' is not known.")
        if not fits(value):
            raise NangoError(400, "invalid_body", f"'{name}' has to be {wanted}.")
    options = dict(asked)
    if not (options.get("rate", 1) or options.get("item_rate")):
        return None
    names = [str(name) for name in options.pop("kinds", ("transient", "expiries"))]
    kinds = frozenset[str]().union(*(_KIND_SETS.get(name, {name}) for name in names))
    try:
        return FaultInjector(kinds=kinds, **options)
    except ValueError as error:
        raise NangoError(400, "invalid_body", str(error)) from None
