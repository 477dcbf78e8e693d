"""Pages that are too large for a simulated tenant: refused with a 400, or answered with 504."""

import json

import pytest

from sandbox.tenant import Tenant
from sandbox.tenant.graph.service import GraphService
from sandbox.tenant.http import Request


def ask(tenant: Tenant, path: str, query: str = "") -> tuple[int, bytes]:
    response = GraphService().handle(tenant, Request("GET", f"v1.0/{path}", query, {}))
    return response.status, response.body


@pytest.fixture
def tenant() -> Tenant:
    return Tenant(seed=3, users=30, groups=20)


def test_a_cap_is_a_400_that_names_it(tenant: Tenant) -> None:
    tenant.options.refuse_top_above = 10
    status, body = ask(tenant, "users", "$top=11")
    assert (status, b"Must be between 1 and 10 inclusive" in body) == (400, True)
    assert ask(tenant, "users", "$top=10")[0] == 200


@pytest.mark.parametrize("path", ["users", "groups/delta"])
def test_a_large_page_takes_too_long(tenant: Tenant, path: str) -> None:
    tenant.options.time_out_above = 10
    assert ask(tenant, path)[0] == 504
    assert ask(tenant, path, "$top=11")[0] == 504
    status, body = ask(tenant, path, "$top=10")
    assert (status, len(json.loads(body)["value"])) == (200, 10)


def test_a_large_page_of_members_takes_too_long(tenant: Tenant) -> None:
    tenant.options.time_out_members_above = 10
    path = f"groups/{tenant.groups.id_at(1)}/members"
    assert ask(tenant, path, "$top=11")[0] == 504
    assert ask(tenant, path, "$top=10")[0] == 200
