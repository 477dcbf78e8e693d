"""Resource units of the directory and of SharePoint, told and enforced."""

import time
from collections.abc import Iterator

import httpx
import pytest

from sandbox.tenant import Client, Nango, Tenant, TenantOptions, serve

UNIT = "x-ms-resource-unit"
SHARE = "x-ms-throttle-limit-percentage"


@pytest.fixture
def tenant() -> Tenant:
    return Tenant(users=30, groups=4, sites=6)


@pytest.fixture
def client(tenant: Tenant) -> Iterator[Client]:
    nango = Nango()
    nango.add_connection("c1", tenant)
    with serve(nango) as server, Client(server, "c1") as client:
        yield client


@pytest.mark.parametrize(
    ("target", "cost"),
    [
        ("users", "2"),
        ("users?$select=id", "1"),
        ("users?$top=5", "1"),
        ("users?$select=id&$top=5", "1"),
        ("users/delta", "1"),
        ("groups", "1"),
        ("groups/{group}/members", "3"),
        ("groups/{group}/members?$select=id", "2"),
        ("groups/{group}/members?$select=id&$top=5", "1"),
        ("users/{user}/memberOf", "2"),
        ("users/{user}", "1"),
        ("roleManagement/directory/roleAssignments", "1"),
        ("users/nobody", "1"),
    ],
)
def test_every_call_of_the_directory_tells_its_cost(
    client: Client, tenant: Tenant, target: str, cost: str
) -> None:
    path = target.format(group=tenant.groups.id_at(0), user=tenant.users.id_at(0))
    answer = client.get(path)
    assert answer.headers[UNIT] == cost
    assert SHARE not in answer.headers


def test_calls_beyond_the_budget_are_throttled_and_cost_nothing(
    client: Client, tenant: Tenant
) -> None:
    tenant.options.resource_units = 10
    answers = [client.get("users") for _ in range(7)]
    assert [a.status_code for a in answers] == [200] * 5 + [429] * 2
    assert [a.headers.get(SHARE) for a in answers] == [
        *[None] * 4,
        "1.00",
        "1.20",
        "1.20",
    ]
    refused = answers[-1]
    assert refused.json()["error"]["code"] == "TooManyRequests"
    assert 1 <= int(refused.headers["retry-after"]) <= 10
    assert refused.headers["x-ms-throttle-scope"].endswith(f"/{tenant.tenant_id}")
    assert refused.headers["x-ms-throttle-scope"].startswith("Tenant_Application/")
    assert refused.headers["x-ms-throttle-information"] == "ResourceUnitLimitExceeded"
    assert client.get("sites/getAllSites").status_code == 200


def test_the_budget_is_new_in_the_next_window(client: Client, tenant: Tenant) -> None:
    tenant.options = TenantOptions(resource_units=4, resource_unit_window=0.3)
    assert [client.get("users").status_code for _ in range(3)] == [200, 200, 429]
    while client.get("users").status_code == 429:
        time.sleep(0.02)
    assert client.get("users").headers[SHARE] == "1.00"


def test_items_of_a_batch_are_charged_one_by_one(client: Client, tenant: Tenant) -> None:
    tenant.options.resource_units = 5
    answers = {a["id"]: a for a in client.send_batch(*["users"] * 3, "users?$select=id", "groups")}
    assert {name: a["status"] for name, a in answers.items()} == {
        "1": 200,
        "2": 200,
        "3": 429,
        "4": 200,
        "5": 429,
    }
    assert answers["1"]["headers"][UNIT] == "2"
    assert SHARE not in answers["1"]["headers"]
    assert answers["4"]["headers"][SHARE] == "1.00"
    assert int(answers["3"]["headers"]["Retry-After"]) >= 1
    assert "x-ms-throttle-scope" in answers["3"]["headers"]


def rate_of(answer: httpx.Response) -> list[str | None]:
    names = ("ratelimit-limit", "ratelimit-remaining", "ratelimit-reset")
    return [answer.headers.get(name) for name in names]


@pytest.mark.parametrize(
    ("status", "code"), [(429, "activityLimitReached"), (503, "serviceNotAvailable")]
)
def test_sites_have_a_budget_of_their_own_and_refused_calls_count(
    client: Client, tenant: Tenant, status: int, code: str
) -> None:
    tenant.options = TenantOptions(sharepoint_units=10, sharepoint_status=status)
    one = f"sites/{tenant.sites.props_at(0)['id']}"
    targets = [*["sites/getAllSites"] * 3, one, one, "sites?search=*", "sites?search=*", one]
    answers = [client.get(target) for target in targets]
    assert [a.status_code for a in answers] == [200] * 6 + [status] * 2
    assert rate_of(answers[3]) == [None] * 3
    assert rate_of(answers[4])[:2] == ["10", "2"]
    assert rate_of(answers[6])[:2] == ["10", "0"]
    refused = answers[6]
    assert refused.json()["error"]["code"] == code
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert UNIT not in refused.headers
    if status == 429:
        inner = refused.json()["error"]["innerError"]
        assert (inner["code"], inner["innerError"]["code"]) == ("throttledRequest", "quota")
    assert client.get("users").status_code == 200
