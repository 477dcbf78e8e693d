"""`$batch`: order, dependencies, refusals, and changes between its items."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from sandbox.tenant import Client, Nango, Request, Response, Tenant, serve


@pytest.fixture
def tenant() -> Tenant:
    return Tenant(seed=2, users=50)


@pytest.fixture
def nango(tenant: Tenant) -> Nango:
    nango = Nango()
    nango.add_connection("c1", tenant)
    return nango


@pytest.fixture
def client(nango: Nango) -> Iterator[Client]:
    with serve(nango) as server, Client(server, "c1") as client:
        yield client


def by_id(answers: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {answer["id"]: answer for answer in answers}


def test_items_are_answered_in_any_order_with_their_own_status(client: Client) -> None:
    orders = set()
    for _ in range(5):
        answers = client.send_batch("/users?$top=2", "users/none", "/organization", "/nowhere")
        orders.add(tuple(answer["id"] for answer in answers))
        found = by_id(answers)
        assert {i: a["status"] for i, a in found.items()} == {
            "1": 200,
            "2": 404,
            "3": 200,
            "4": 400,
        }
    assert len(orders) > 1
    assert found["1"]["headers"]["Content-Type"].startswith("application/json")
    link = found["1"]["body"]["@odata.nextLink"]
    assert len(client.get(link).json()["value"]) == 2
    relative = link.removeprefix("https://graph.microsoft.com/v1.0")
    assert by_id(client.send_batch(relative))["1"]["status"] == 200


def test_an_item_waits_for_what_it_depends_on(client: Client) -> None:
    answers = by_id(
        client.send_batch(
            {"url": "/organization", "dependsOn": ["3"]},
            {"url": "/organization", "dependsOn": ["1", "4"]},
            "/organization",
            "/users/none",
        )
    )
    assert {i: a["status"] for i, a in answers.items()} == {"1": 200, "2": 424, "3": 200, "4": 404}


def test_a_dead_token_within_a_batch_has_its_location(client: Client, tenant: Tenant) -> None:
    link = client.walk("users/delta").delta_link
    assert link
    tenant.expire_delta_tokens()
    (answer,) = client.send_batch(link.removeprefix("https://graph.microsoft.com/v1.0"))
    assert answer["status"] == 410
    assert answer["headers"]["Location"].endswith("/users/delta?$deltatoken=")


@pytest.mark.parametrize(
    "requests",
    [
        None,
        [],
        "x",
        [{"id": "1", "method": "GET", "url": "/users"}] * 2,
        [{"id": str(n), "method": "GET", "url": "/users"} for n in range(21)],
        [{"id": 1, "method": "GET", "url": "/users"}],
        [{"id": "1", "url": "/users"}],
        [{"id": "1", "method": "GET", "url": "/users", "dependsOn": ["2"]}],
        [{"id": "1", "method": "GET", "url": "/users", "dependsOn": ["1"]}],
    ],
)
def test_a_malformed_batch_answers_400(client: Client, requests: object) -> None:
    refused = client.http.post("/proxy/v1.0/$batch", json={"requests": requests})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "BadRequest")


def test_a_batch_cannot_be_nested_and_only_posted(client: Client) -> None:
    assert client.send_batch({"url": "/$batch", "method": "POST"})[0]["status"] == 405
    assert client.get("$batch").status_code == 405


@pytest.mark.parametrize("status", [400, 404, 501])
def test_batching_can_be_refused_altogether(client: Client, tenant: Tenant, status: int) -> None:
    tenant.options.batch_error_status = status
    refused = client.http.post("/proxy/v1.0/$batch", json={"requests": []})
    assert refused.status_code == status


def test_the_directory_may_change_between_two_items(client: Client, tenant: Tenant) -> None:
    user_id = tenant.users.id_at(0)
    tenant.options.before_next_item = lambda done: (
        tenant.delete_user(user_id) if done == 1 else None
    )
    answers = by_id(client.send_batch(*[f"/users/{user_id}"] * 3))
    assert [answers[i]["status"] for i in "123"] == [200, 404, 404]
    tenant.options.before_next_item = None
    tenant.options.mutations_between_items = 3
    before = tenant.truth()
    client.send_batch("/organization", "/organization")
    assert tenant.truth() != before


def test_all_items_are_of_the_tenant_whose_token_the_call_has(
    client: Client, nango: Nango, tenant: Tenant
) -> None:
    other = Tenant(seed=3, users=5)

    def swap(request: Request) -> None:
        if request.item == "2":
            nango.connections[0].tenant = other

    nango.before_graph = swap
    answers = client.send_batch(*["/organization"] * 3)
    assert {one["body"]["value"][0]["id"] for one in answers} == {tenant.tenant_id}
    after = client.get("organization").json()
    assert after["value"][0]["id"] == other.tenant_id


def test_an_item_that_is_late_or_cut_makes_the_whole_reply_so(client: Client, nango: Nango) -> None:
    body = b'{"value": []}'
    nango.before_graph = lambda r: Response(200, body, cut_after=5) if r.item == "2" else None
    with pytest.raises(httpx.RemoteProtocolError):
        client.send_batch("/organization", "/users")
