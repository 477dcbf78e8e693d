"""What Nango itself puts in the way: its limit of calls, scopes, and tokens it cannot renew."""

import time

import httpx
import pytest

from sandbox.tenant import Client, Nango, Response, Server, Tenant

CONNECTION = "/connections/c1?provider_config_key=entra"


@pytest.fixture
def nango() -> Nango:
    nango = Nango(rate_limit=3)
    nango.add_connection("c1", Tenant(users=5, groups=2))
    nango.add_connection("c2", Tenant(seed=2, users=5, groups=2), metadata={"a": 1, "b": 1})
    return nango


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


# -- the limit of calls ---------------------------------------------------------------------------


def test_the_limit_is_only_told_unless_it_is_enforced(client: Client) -> None:
    answers = [client.get("users") for _ in range(5)]
    assert {a.status_code for a in answers} == {200}
    assert [a.headers["x-ratelimit-remaining"] for a in answers] == ["2", "1", "0", "0", "0"]


def test_one_call_too_many_of_any_kind_is_refused_for_the_whole_account(
    server: Server, client: Client, nango: Nango
) -> None:
    nango.enforce_rate_limit = True
    with Client(server, "c2") as other:
        assert client.get("users").status_code == 200
        assert other.http.get("/connections").status_code == 200
        assert client.http.get(CONNECTION).status_code == 200
        refused = other.get("users?$top=1")
    assert refused.json() == {
        "error": {"code": "too_many_request", "method": "GET", "path": "/proxy/v1.0/users"}
    }
    assert 0 <= int(refused.headers["retry-after"]) < 60
    assert refused.headers["x-ratelimit-limit"] == "3"
    assert refused.headers["x-ratelimit-remaining"] == "0"
    assert 0 < int(refused.headers["x-ratelimit-reset"]) - time.time() + 1 <= 61
    assert client.http.get("/health").status_code == 200


def test_calls_without_a_key_and_the_sandboxs_own_do_not_count(
    client: Client, nango: Nango
) -> None:
    nango.enforce_rate_limit = True
    for _ in range(5):
        assert client.http.get("/connections", headers={"Authorization": ""}).status_code == 401
        assert client.http.get("/sandbox/calls").status_code == 200
    assert client.get("users").headers["x-ratelimit-remaining"] == "2"


def test_a_new_window_opens_with_the_first_call_after_the_last(
    client: Client, nango: Nango
) -> None:
    nango.enforce_rate_limit, nango.rate_window = True, 0.3
    answers = [client.get("users") for _ in range(4)]
    assert [a.status_code for a in answers] == [200, 200, 200, 429]
    assert answers[3].headers["retry-after"] == "0"
    while client.get("users").status_code == 429:
        time.sleep(0.02)
    assert client.get("users").headers["x-ratelimit-remaining"] == "1"


def test_a_limit_may_be_off(client: Client, nango: Nango) -> None:
    nango.rate_limit, nango.enforce_rate_limit = None, True
    answers = [client.get("users") for _ in range(5)]
    assert {a.status_code for a in answers} == {200}
    assert "x-ratelimit-limit" not in answers[0].headers


def test_graphs_own_429_carries_nangos_headers_too(client: Client, nango: Nango) -> None:
    nango.before_graph = lambda _: Response(429, b"{}", {"retry-after": "7"})
    refused = client.get("users")
    assert refused.headers["retry-after"] == "7"
    assert refused.headers["x-ratelimit-remaining"] == "2"


# -- scopes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/proxy/v1.0/users", "environment:proxy"),
        ("GET", "/connections", "environment:connections:list"),
        ("GET", CONNECTION, "environment:connections:read"),
        ("PATCH", "/connections/metadata", "environment:connections:update"),
    ],
)
def test_a_key_without_the_scope_is_told_which_one_it_lacks(
    client: Client, nango: Nango, method: str, path: str, scope: str
) -> None:
    nango.rate_limit = None
    body = {"connection_id": "c1", "provider_config_key": "entra", "metadata": {}}
    nango.scopes = {"environment:logs:read"}
    refused = client.http.request(method, path, json=body)
    assert refused.status_code == 403
    assert refused.json()["error"] == {
        "code": "forbidden",
        "message": f"Insufficient scope. Required: {scope}",
    }
    for granted in ({scope}, {"environment:*"}, None):
        nango.scopes = granted
        assert client.http.request(method, path, json=body).status_code == 200


# -- tokens that cannot be renewed ----------------------------------------------------------------


def test_a_failed_refresh_is_told_once_and_then_backed_off_from(
    client: Client, nango: Nango
) -> None:
    connection = nango.connections[0]
    connection.refresh_fails = True
    assert client.http.get("/connections").json()["connections"][1]["errors"] == []
    first, second = client.get("users"), client.get("users")
    assert code_of(first) == (400, "server_error")
    assert first.json()["error"]["message"].startswith("Failed to get connection credentials: '")
    assert code_of(second) == (424, "connection_refresh_backoff")
    assert connection.refresh.attempts == 1
    (error,) = client.http.get("/connections").json()["connections"][1]["errors"]
    assert error["type"] == "auth"


def test_after_the_pause_nango_tries_again(client: Client, nango: Nango) -> None:
    connection = nango.connections[0]
    connection.refresh.backoff = 0.0
    connection.refresh_fails = True
    assert [client.get("users").status_code for _ in range(3)] == [400, 400, 400]
    assert connection.refresh.attempts == 3


def test_an_outage_that_is_over_still_shows_until_the_pause_has_ended(
    client: Client, nango: Nango
) -> None:
    nango.rate_limit = None
    connection = nango.connections[0]
    connection.refresh_fails, connection.refresh.backoff = True, 0.3
    assert client.get("users").status_code == 400
    connection.refresh_fails = False
    assert client.get("users").status_code == 424
    assert connection.to_row()["errors"]
    while client.get("users").status_code == 424:
        time.sleep(0.02)
    assert client.get("users").status_code == 200
    assert connection.to_row()["errors"] == []


def test_a_connection_that_is_authorised_again_works_at_once(client: Client, nango: Nango) -> None:
    connection = nango.connections[0]
    connection.refresh_fails = True
    assert client.get("users").status_code == 400
    connection.refresh.reauthorize()
    assert client.get("users").status_code == 200
    assert connection.to_row()["errors"] == []


def test_nango_gives_up_on_a_connection_without_marking_its_row(
    client: Client, nango: Nango
) -> None:
    connection = nango.connections[0]
    connection.refresh.exhausted = True
    refused = client.get("users")
    assert code_of(refused) == (424, "server_error")
    message = refused.json()["error"]["message"]
    assert "The refresh limit has been reached for this connection." in message
    assert connection.to_row()["errors"] == []


def test_reading_the_connection_fails_too_for_a_key_that_may_read_credentials(
    client: Client, nango: Nango
) -> None:
    nango.connections[0].refresh_fails = True
    refused = client.http.get(CONNECTION)
    assert code_of(refused) == (424, "invalid_credentials")
    assert refused.json()["error"]["payload"]["connection"]["connection_id"] == "c1"
    nango.scopes = {"environment:connections:read"}
    assert client.http.get(CONNECTION).status_code == 200


def test_a_token_that_graph_rejects_is_good_again_once_it_is_renewed(
    client: Client, nango: Nango
) -> None:
    nango.rate_limit = None
    refresh = nango.connections[0].refresh
    refresh.rejected = True
    assert code_of(client.get("users")) == (401, "InvalidAuthenticationToken")
    assert client.http.get(CONNECTION).status_code == 200
    nango.scopes = {"environment:connections:read", "environment:proxy"}
    assert client.http.get(f"{CONNECTION}&force_refresh=true").status_code == 200
    assert client.get("users").status_code == 401, "such a key renews nothing"
    nango.scopes = None
    assert client.http.get(f"{CONNECTION}&force_refresh=true").status_code == 200
    assert client.get("users").status_code == 200
    assert refresh.forced_count == 1
    refresh.rejected = refresh.revoked = True
    assert client.http.get(f"{CONNECTION}&force_refresh=true").status_code == 200
    assert client.get("users").status_code == 401


def test_other_connections_go_on_working(server: Server, nango: Nango) -> None:
    nango.connections[0].refresh_fails = True
    with Client(server, "c2") as other:
        assert other.get("users").status_code == 200


# -- metadata -------------------------------------------------------------------------------------


def test_metadata_is_replaced_or_joined(client: Client, nango: Nango) -> None:
    asked = {"connection_id": "c2", "provider_config_key": "entra", "metadata": {"b": 2}}
    joined = client.http.patch("/connections/metadata", json=asked)
    assert (joined.status_code, joined.json()) == (200, asked)
    assert client.http.get("/connections").json()["connections"][0]["metadata"] == {"a": 1, "b": 2}
    both = asked | {"connection_id": ["c1", "c2"]}
    assert client.http.post("/connections/metadata", json=both).status_code == 201
    assert [c.metadata for c in nango.connections] == [{"b": 2}, {"b": 2}]


def test_metadata_for_an_unknown_connection_changes_nothing(client: Client, nango: Nango) -> None:
    asked = {"connection_id": ["c2", "c9"], "provider_config_key": "entra", "metadata": {"b": 2}}
    assert code_of(client.http.post("/connections/metadata", json=asked)) == (
        404,
        "unknown_connection",
    )
    assert nango.connections[1].metadata == {"a": 1, "b": 1}
    bad = client.http.post("/connections/metadata", json={"connection_id": "c2"})
    assert code_of(bad) == (400, "invalid_body")
    assert len(bad.json()["error"]["errors"]) == 2
