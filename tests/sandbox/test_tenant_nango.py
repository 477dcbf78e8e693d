"""Nango's side: keys, headers, connections, the proxy, hooks and counters."""

from urllib.parse import quote

import httpx
import pytest

from sandbox.tenant import Client, Nango, Request, Response, Server, Tenant, serve

MISSING = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def nango() -> Nango:
    nango = Nango()
    for name in ("c1", "c2", "c3"):
        nango.add_connection(name, Tenant(seed=3), metadata={"tenant_mirror": {"name": name}})
    nango.add_connection("other", Tenant(seed=4), "entra-2", "microsoft-entra-id")
    return nango


def code_of(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


@pytest.mark.parametrize("path", ["/connections", "/connections/c1", "/proxy/v1.0/users"])
@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "missing_auth_header"),
        ("Basic abc", "malformed_auth_header"),
        ("Bearer abc", "invalid_secret_key_format"),
        (f"Bearer {MISSING}", "unknown_account"),
    ],
)
def test_a_wrong_key_gets_nangos_401(
    server: Server, path: str, header: str | None, code: str
) -> None:
    refused = httpx.get(
        server.url + path, headers={"authorization": header} if header else {}, trust_env=False
    )
    assert code_of(refused) == (401, code)
    assert refused.json()["error"]["payload"] == {}
    assert "x-ratelimit-limit" not in refused.headers


def test_health_needs_no_key_and_unknown_paths_look_like_success(server: Server) -> None:
    with httpx.Client(base_url=server.url, trust_env=False) as http:
        assert http.get("/health").json() == {"result": "ok"}
        lost = http.get("/v1/users")
        assert (lost.status_code, lost.headers["content-type"][:9]) == (200, "text/html")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Connection-Id": ""}, (400, "invalid_headers")),
        ({"Provider-Config-Key": ""}, (400, "invalid_headers")),
        ({"Retries": "many"}, (400, "invalid_headers")),
        ({"Provider-Config-Key": "nowhere"}, (404, "unknown_provider_config")),
        ({"Connection-Id": "nobody"}, (400, "server_error")),
        ({"Connection-Id": "other"}, (400, "server_error")),
    ],
)
def test_the_proxy_checks_its_headers(
    client: Client, headers: dict[str, str], expected: tuple[int, str]
) -> None:
    assert code_of(client.get("users", **headers)) == expected


@pytest.mark.parametrize("odd", ["acme corp #1", "50%", "a&b", "<x>"])
def test_an_id_that_the_import_takes_may_be_refused_by_the_rest_of_the_api(
    nango: Nango, client: Client, odd: str
) -> None:
    """Before it is looked up: also where there is none any more."""
    nango.add_connection(odd, Tenant(seed=1, users=1))
    listed = client.http.get("/connections").json()["connections"]
    assert odd in [row["connection_id"] for row in listed]
    path = f"/connections/{quote(odd, safe='')}?provider_config_key=entra"
    for _ in range(2):
        assert code_of(client.get("users", **{"Connection-Id": odd})) == (400, "invalid_headers")
        assert code_of(client.http.get(path)) == (400, "invalid_uri_params")
        if nango.find(odd):
            nango.remove_connection(odd)


def test_connections_are_listed_newest_first_in_pages(client: Client) -> None:
    rows = client.http.get("/connections").json()["connections"]
    assert [row["connection_id"] for row in rows] == ["other", "c3", "c2", "c1"]
    assert rows[3]["metadata"] == {"tenant_mirror": {"name": "c1"}}
    assert rows[3]["created"].endswith("+00:00")
    page = client.http.get("/connections?limit=3&page=1").json()["connections"]
    assert [row["connection_id"] for row in page] == ["c1"]
    some = client.http.get("/connections?integrationId=entra-2,x").json()["connections"]
    assert [row["provider"] for row in some] == ["microsoft-entra-id"]
    assert len(client.http.get("/connections?search=C").json()["connections"]) == 3
    assert len(client.http.get("/connections?connectionId=c2").json()["connections"]) == 1


@pytest.mark.parametrize("query", ["limit=0", "limit=2001", "limit=x", "page=-1", "colour=red"])
def test_connection_parameters_are_strict(client: Client, query: str) -> None:
    assert code_of(client.http.get(f"/connections?{query}")) == (400, "invalid_query_params")


def test_one_connection_is_read_or_not_found(client: Client, nango: Nango) -> None:
    path = "/connections/c1?provider_config_key=entra"
    found = client.http.get(path).json()
    assert found["credentials"] == {}
    assert found["connection_config"]["tenantId"] == nango.connections[0].tenant.tenant_id
    assert code_of(client.http.get("/connections/c1")) == (400, "invalid_query_params")
    assert code_of(client.http.get("/connections/c1?provider_config_key=x")) == (
        400,
        "unknown_provider_config",
    )
    nango.remove_connection("c1")
    assert code_of(client.http.get(path)) == (404, "not_found")
    assert code_of(client.get("users")) == (400, "server_error")


def test_graph_answers_carry_its_headers_and_nangos_limit(client: Client, nango: Nango) -> None:
    for target in ("users", "users/none"):
        answer = client.get(target, **{"Nango-Proxy-Client-Request-Id": "mine"})
        assert answer.headers["client-request-id"] == "mine"
        assert {"request-id", "x-ratelimit-remaining", "x-ratelimit-reset"} <= set(answer.headers)
        assert answer.headers["x-ratelimit-limit"] == "200"
        assert answer.headers["transfer-encoding"] == "chunked"
    own = client.get("users", **{"Client-Request-Id": "mine"})
    assert own.headers["client-request-id"] != "mine"
    nango.rate_limit = None
    assert "x-ratelimit-limit" not in client.get("users").headers


def test_a_buffered_success_loses_graphs_headers(client: Client, nango: Nango) -> None:
    nango.buffers_responses = True
    assert "request-id" not in client.get("users").headers
    assert "content-length" in client.get("users").headers
    assert "request-id" in client.get("users/none").headers


def test_an_absolute_link_after_the_proxy_is_accepted(client: Client) -> None:
    link = client.get("users?$top=3").json()["@odata.nextLink"]
    assert client.http.get(f"/proxy/{link}").status_code == 200


def test_a_request_head_that_is_too_long_answers_431(client: Client) -> None:
    assert client.get("users?$select=" + "id," * 6000).status_code == 431


def test_a_refused_resource_may_be_one_connections_alone(client: Client, nango: Nango) -> None:
    nango.connections[0].refused_resources.add("users")
    assert client.get("users").status_code == 403
    assert client.get("users", **{"Connection-Id": "c2"}).status_code == 200


def test_calls_are_counted_and_logged(client: Client, nango: Nango) -> None:
    client.get("users?$top=1")
    client.get(f"users/{MISSING}", **{"X-Mine": "yes"})
    client.send_batch("/organization", "/users/delta()")
    client.http.get("/connections")
    assert nango.calls.total == 4
    assert nango.calls.kinds == {"proxy": 3, "connections": 1}
    assert nango.calls.graph == {
        "users": 1,
        "users/{id}": 1,
        "$batch": 1,
        "organization": 1,
        "users/delta": 1,
    }
    logged = nango.log[1]
    assert (logged.status, logged.request.path) == (404, f"/proxy/v1.0/users/{MISSING}")
    assert logged.request.headers["x-mine"] == "yes"
    nango.calls.reset()
    assert nango.calls.total == 0


def test_a_hook_may_answer_any_request(client: Client, nango: Nango) -> None:
    def busy(request: Request) -> Response | None:
        if request.path.endswith("/users"):
            return Response(429, b"<html>", {"retry-after": "0.5"}, delay=0.01)
        return None

    nango.before_response = busy
    answer = client.get("users")
    assert (answer.status_code, answer.content) == (429, b"<html>")
    assert answer.headers["retry-after"] == "0.5"
    assert client.get("organization").status_code == 200


def test_a_server_ends_while_a_reply_is_held_back(nango: Nango) -> None:
    nango.before_response = lambda _: Response(200, b"late", delay=60)
    with (
        serve(nango) as server,
        httpx.Client(trust_env=False, timeout=0.1) as http,
        pytest.raises(httpx.ReadTimeout),
    ):
        http.get(f"{server.url}/health")


def test_a_fault_in_a_hook_is_nangos_500(client: Client, nango: Nango) -> None:
    def fail(_: Request) -> Response | None:
        raise RuntimeError

    nango.before_response = fail
    assert code_of(client.get("users")) == (500, "generic_error_support")


def test_a_hook_may_answer_one_item_of_a_batch(client: Client, nango: Nango) -> None:
    def refuse(request: Request) -> Response | None:
        if request.item == "2":
            return Response(503, b'{"error":{"code":"busy"}}', {"retry-after": "7"})
        return None

    nango.before_graph = refuse
    answers = {a["id"]: a for a in client.send_batch("/organization", "/organization")}
    assert (answers["1"]["status"], answers["2"]["status"]) == (200, 503)
    assert answers["2"]["headers"]["Retry-After"] == "7"
