"""Graph's 401: a resource that refuses the token, a token to be renewed, or a customer's matter."""

import json
from typing import Any

import pytest

from models.resources import STREAMED
from models.run import RunState
from sandbox.tenant import Request, Response, Tenant
from tests.support.mirror import MakeMirror, Mirror, assert_exact, fetch_scalar

pytestmark = pytest.mark.first_resources

RENEWAL = "/connections/contoso"
SCOPES = {f"environment:{name}" for name in ("connections:list", "connections:read", "proxy")}
CODES = ["InvalidAuthenticationToken", "Unauthorized", ""]


def refuse(mirror: Mirror, path: str, code: str = "InvalidAuthenticationToken") -> None:
    """Graph answers 401 for one path, in a batch or alone, and takes the token otherwise."""
    body = {"error": {"code": code, "message": "no", "innerError": {"request-id": "x"}}}
    answer = Response(
        401, json.dumps(body).encode(), {"content-type": "application/json", "request-id": "x"}
    )

    def hook(request: Request) -> Response | None:
        return answer if request.path.endswith(path) else None

    mirror.nango.before_graph = hook


def column(mirror: Mirror, name: str, resource: str) -> Any:
    return fetch_scalar(
        mirror.database, f"select {name} from sync.streams where resource = '{resource}'"
    )


def status(mirror: Mirror) -> Any:
    return fetch_scalar(mirror.database, "select status from sync.connections")


def renewals(mirror: Mirror) -> int:
    return mirror.nango.connections[0].refresh.forced_count


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize(
    ("path", "resource"),
    [
        ("/users/delta", "users"),
        ("/users", "users"),
        ("/groups/delta", "groups"),
        ("/getAllSites", "sites"),
        ("/roleAssignments", "role_assignments"),
    ],
)
def test_a_401_for_one_resource_refuses_that_one(
    make_mirror: MakeMirror, path: str, resource: str, code: str
) -> None:
    tenant = Tenant(seed=7, users=30, groups=5, sites=4)
    mirror = make_mirror(tenant)
    refuse(mirror, path, code)
    assert mirror.sync().state is RunState.PARTIAL
    assert status(mirror) == "active"
    assert column(mirror, "phase", resource) == "refused"
    others = (
        f"select count(*) from sync.streams where phase <> 'refused' and resource <> '{resource}'"
    )
    assert fetch_scalar(mirror.database, others) == len(STREAMED) - 1
    assert renewals(mirror) == 0, "the organization answers, so the token is good"
    mirror.nango.before_graph = None
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)


def test_a_401_for_a_batch_alone_costs_the_batch(mirror: Mirror) -> None:
    refuse(mirror, "$batch")
    mirror.tenant.mutate(10)
    assert mirror.sync().state is RunState.SUCCEEDED
    assert status(mirror) == "active"
    mirror.nango.before_graph = None
    assert_exact(mirror.database, mirror.tenant)


def test_a_401_for_a_delta_link_asks_for_the_organization_and_keeps_the_cursor(
    mirror: Mirror,
) -> None:
    link = column(mirror, "delta_link", "users")
    mirror.tenant.mutate(10)
    refuse(mirror, "/users/delta")
    assert mirror.sync().state is RunState.PARTIAL
    assert status(mirror) == "active"
    assert column(mirror, "delta_link", "users") == link
    mirror.nango.before_graph = None
    mirror.nango.calls.reset()
    assert mirror.sync().state is RunState.SUCCEEDED
    assert mirror.nango.calls.graph["users"] == 0
    assert_exact(mirror.database, mirror.tenant)


@pytest.mark.parametrize("batching", [0, 400])
def test_a_token_that_graph_rejects_is_renewed_and_the_call_sent_again(
    mirror: Mirror, batching: int
) -> None:
    mirror.tenant.options.batch_error_status = batching
    mirror.nango.connections[0].refresh.rejected = True
    mirror.tenant.mutate(10)
    assert mirror.sync().state is RunState.SUCCEEDED
    assert (status(mirror), renewals(mirror)) == ("active", 1)
    assert_exact(mirror.database, mirror.tenant)


def test_a_token_that_is_rejected_at_any_call_of_a_first_load_is_renewed(
    make_mirror: MakeMirror,
) -> None:
    tenant = Tenant(seed=8, users=60, groups=6, sites=4)
    tenant.options.max_page_size, tenant.options.delta_page_size = 20, 15
    mirror = make_mirror(tenant)
    refresh = mirror.nango.connections[0].refresh
    calls = 0

    def reject(request: Request) -> None:
        nonlocal calls
        if request.path.startswith("/proxy/"):
            calls += 1
            refresh.rejected = refresh.rejected or calls in (3, 9)

    mirror.nango.before_response = reject
    assert mirror.sync().state is RunState.SUCCEEDED
    assert 1 <= renewals(mirror) <= 2, "calls side by side share a renewal"
    assert_exact(mirror.database, tenant)


def test_a_token_that_is_rejected_after_its_renewal_is_the_customers(mirror: Mirror) -> None:
    refresh = mirror.nango.connections[0].refresh
    refresh.rejected = refresh.revoked = True
    report = mirror.sync()
    assert report.state is RunState.FAILED
    assert "must reconnect" in (report.message or "")
    assert (status(mirror), renewals(mirror)) == ("broken", 1)
    refresh.reauthorize()
    assert mirror.sync().state is RunState.SUCCEEDED
    assert status(mirror) == "active"


def test_a_key_that_may_not_read_credentials_renews_nothing(mirror: Mirror) -> None:
    refresh = mirror.nango.connections[0].refresh
    refresh.rejected = True
    mirror.nango.scopes = SCOPES
    try:
        assert mirror.sync().state is RunState.FAILED
    finally:
        mirror.nango.scopes = None
    assert (status(mirror), renewals(mirror)) == ("broken", 0)


def test_a_token_that_nango_cannot_renew_is_the_customers(mirror: Mirror) -> None:
    """Nango holds a token for good that Graph rejects, and finds that it gets no other."""
    refresh = mirror.nango.connections[0].refresh
    refresh.rejected = True

    def fail(request: Request) -> None:
        if request.path == RENEWAL:
            refresh.fails = True

    mirror.nango.before_response = fail
    report = mirror.sync()
    assert report.state is RunState.FAILED
    assert "renew" in (report.message or "")
    assert status(mirror) == "broken"
