"""Properties that a tenant's Graph does not know, as Graph answers to them."""

import pytest

from sandbox.tenant import Tenant
from sandbox.tenant.graph.service import GraphService
from sandbox.tenant.http import Request


def ask(tenant: Tenant, path: str, query: str = "") -> tuple[int, bytes]:
    response = GraphService().handle(tenant, Request("GET", f"v1.0/{path}", query, {}))
    return response.status, response.body


@pytest.mark.parametrize("path", ["users", "users/delta", "groups/delta"])
def test_a_property_that_is_not_known_is_refused_with_its_name(path: str) -> None:
    tenant = Tenant(seed=3, users=5, groups=2)
    assert ask(tenant, path, "$select=id,displayName")[0] == 200
    tenant.options.unknown_properties = {"users.displayName", "groups.displayName"}
    status, body = ask(tenant, path, "$select=id,displayName")
    assert status == 400
    assert b"Could not find a property named 'displayName' on type" in body
    assert ask(tenant, path, "$select=id,mail")[0] == 200
    tenant.options.names_unknown_property = False
    status, body = ask(tenant, path, "$select=id,displayName")
    assert (status, b"displayName" in body) == (400, False)


def test_a_cursor_with_such_a_property_is_refused_as_well() -> None:
    tenant = Tenant(seed=3, users=5, groups=2)
    _, body = ask(tenant, "users/delta", "$select=id,mail&$deltatoken=latest")
    link = body.partition(b"/users/delta?")[2].partition(b'"')[0].decode()
    assert ask(tenant, "users/delta", link)[0] == 200
    tenant.options.unknown_properties = {"users.mail"}
    assert ask(tenant, "users/delta", link)[0] == 400
