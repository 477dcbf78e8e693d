"""Who may use which route of the API: decided by the table, whatever else a request says."""

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, text

from models.api_token import Scope, api_tokens
from tests.support.databases import DatabaseFactory
from tests.support.web import HOST, REMOTE, WebApplication, WebClient, make_token, open_application
from worker.core.settings import load_settings
from worker.store.engine import Database
from worker.store.service.tokens import list_tokens, revoke_token
from worker.web.app import build_app
from worker.web.endpoint import Endpoint, Exemption
from worker.web.routes import ENDPOINTS
from worker.web.token import generate_token
from worker.web.verify import CACHE_SECONDS, MAX_FAILURES, UNKNOWN_SECONDS

ALL_ROUTES = pytest.mark.parametrize("route", ENDPOINTS, ids=lambda it: f"{it.method} {it.path}")
PROBLEM = "application/problem+json"
BOOTSTRAP = "a-token-of-the-first-hour-0123456789"


@pytest.fixture(scope="module")
def web(cluster: DatabaseFactory) -> Iterator[WebApplication]:
    url = cluster.create_migrated()
    opened = open_application(load_settings(database_url=url, web_token=BOOTSTRAP))
    yield opened
    opened.close()
    cluster.drop(url)


@pytest.fixture(scope="module")
def tokens(web: WebApplication) -> dict[str, str]:
    """One for each state and scope. They are made before any request, so the cache has them."""
    made = {scope.value: web.make_token(scope) for scope in Scope}
    made["all"] = web.make_token(*Scope, name="everything")
    made["expired"] = web.make_token(*Scope, lifetime=timedelta(milliseconds=1))
    made["revoked"] = web.make_token(*Scope, name="revoked")
    with web.database.open_transaction() as db:
        revoke_token(db, "revoked")
    made["unknown"] = generate_token().text
    made["altered"] = made["all"][:-1] + ("A" if made["all"][-1] != "A" else "B")
    made["other id"] = f"{made['read'][:14]}{made['all'][14:]}"
    made["malformed"] = "tm_"
    return made


@pytest.fixture(autouse=True)
def _fresh_limits(web: WebApplication) -> None:
    web.context.failures._failures.clear()


def call(client: WebClient, route: Endpoint, token: str | None, peer: str = REMOTE) -> int:
    path = re.sub(r"\{\w+\}", "999999", route.path)
    body = b"{}" if route.body is not None else b""
    headers = {"content-type": "application/json"} if body else {}
    return client.request(
        route.method, path, token=token, body=body, headers=headers, peer=peer
    ).status


@ALL_ROUTES
def test_without_a_token_only_exempt_routes_answer(web: WebApplication, route: Endpoint) -> None:
    status = call(web.client, route, None)
    is_open = route.access in (Exemption.OPEN, Exemption.WORDS)
    assert (status != 401) == is_open
    if not is_open:
        problem = web.client.replies[-1]
        assert problem.headers["content-type"] == PROBLEM
        assert problem.headers["www-authenticate"].startswith("Bearer ")
        assert problem.json["code"] == "token-missing"


@ALL_ROUTES
@pytest.mark.parametrize(
    "token", ["expired", "revoked", "unknown", "altered", "other id", "malformed"]
)
def test_a_token_that_cannot_be_used_is_refused_everywhere(
    web: WebApplication, tokens: dict[str, str], route: Endpoint, token: str
) -> None:
    status = call(web.client, route, tokens[token])
    assert (status == 401) == (route.access is not Exemption.OPEN)
    if status == 401:
        reply = web.client.replies[-1]
        assert 'error="invalid_token"' in reply.headers["www-authenticate"]
        assert tokens[token] not in reply.body.decode() or token == "malformed"


@ALL_ROUTES
@pytest.mark.parametrize("scope", Scope)
def test_a_token_opens_the_routes_of_its_scopes_and_no_others(
    web: WebApplication, tokens: dict[str, str], route: Endpoint, scope: Scope
) -> None:
    status = call(web.client, route, tokens[scope])
    needed = Scope.METRICS if route.access is Exemption.LOCAL else route.access
    is_allowed = not isinstance(needed, Scope) or needed is scope
    assert status not in (401, 500)
    assert (status != 403) == is_allowed
    if not is_allowed:
        assert f'scope="{needed}"' in web.client.replies[-1].headers["www-authenticate"]


@ALL_ROUTES
@pytest.mark.parametrize("token", ["all", "bootstrap"])
def test_a_token_of_all_scopes_opens_every_route(
    web: WebApplication, tokens: dict[str, str], route: Endpoint, token: str
) -> None:
    given = BOOTSTRAP if token == "bootstrap" else tokens[token]
    assert call(web.client, route, given) not in (401, 403, 500)


@ALL_ROUTES
@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "127.0.0.1/?", "", "a b"]
)
def test_a_host_that_is_not_ours_is_refused_before_anything_else(
    web: WebApplication, route: Endpoint, host: str
) -> None:
    path = re.sub(r"\{\w+\}", "1", route.path)
    reply = web.client.request(route.method, path, token=BOOTSTRAP, host=host)
    assert (reply.status, reply.headers["content-type"]) == (421, PROBLEM)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8420", "LOCALHOST:1", "[::1]:8420"])
def test_names_of_this_host_are_served(web: WebApplication, host: str) -> None:
    assert web.client.get("/health/live", host=host).status == 200


def test_a_forged_host_does_not_change_which_route_is_found(web: WebApplication) -> None:
    reply = web.client.get("/api/openapi.jsonx", host="127.0.0.1/health/live?")
    assert reply.status == 421
    assert web.client.get("/x", headers={"x-forwarded-host": "127.0.0.1/metrics?"}).status == 404


FORGED = [
    {"x-forwarded-for": "127.0.0.1"},
    {"x-forwarded-for": "::1", "x-forwarded-proto": "https", "x-forwarded-host": "localhost"},
    {"forwarded": "for=127.0.0.1;proto=https"},
    {"x-real-ip": "127.0.0.1"},
    {"x-original-url": "/health/live", "x-rewrite-url": "/health/live"},
    {"x-forwarded-user": "admin", "x-request-from": "internal", "x-remote-user": "admin"},
    {"x-http-method-override": "GET"},
]


@pytest.mark.parametrize("headers", FORGED, ids=",".join)
def test_headers_of_an_unlisted_peer_open_nothing(
    web: WebApplication, headers: dict[str, str]
) -> None:
    for route in ENDPOINTS:
        if route.access in (Exemption.OPEN, Exemption.WORDS):
            continue
        path = re.sub(r"\{\w+\}", "1", route.path)
        assert web.client.request(route.method, path, headers=headers).status == 401
    live = web.client.get("/health/live", headers=headers)
    assert "strict-transport-security" not in live.headers


def test_metrics_are_free_on_this_host_but_not_through_a_proxy_on_it(web: WebApplication) -> None:
    assert web.client.get("/metrics", peer="127.0.0.1").status == 200
    assert web.client.get("/metrics", peer="::1").status == 200
    assert web.client.get("/metrics", peer="::ffff:127.0.0.1").status == 200
    for headers in FORGED[:4]:
        assert web.client.get("/metrics", peer="127.0.0.1", headers=headers).status == 401


def test_a_listed_proxy_says_who_the_client_is(
    web: WebApplication, cluster: DatabaseFactory
) -> None:
    assert web.settings.database_url is not None
    url = web.settings.database_url.get_secret_value()
    proxied = open_application(load_settings(database_url=url, web_proxies="127.0.0.1,10.0.0.0/8"))
    client = proxied.client
    try:
        for sent in ("203.0.113.9", "127.0.0.1, 203.0.113.9", "203.0.113.9, 10.1.2.3", "", "x"):
            headers = {"x-forwarded-for": sent, "x-forwarded-proto": "https"}
            reply = client.get("/metrics", peer="127.0.0.1", headers=headers)
            assert reply.status == 401, sent
            assert "max-age" in reply.headers["strict-transport-security"]
        # An unlisted peer is not believed, and its own address counts.
        for _ in range(MAX_FAILURES):
            headers = {"x-forwarded-for": REMOTE}
            client.get("/metrics", peer="127.0.0.1", token="x", headers=headers)
        blocked = client.get("/metrics", peer="10.0.0.1", token="x", headers=headers)
        assert blocked.status == 429
        assert client.get("/metrics", peer="198.51.100.1", token="x", headers=headers).status == 401
    finally:
        proxied.close()


def test_ten_wrong_tokens_a_minute_then_none_and_right_ones_still_work(
    web: WebApplication, tokens: dict[str, str]
) -> None:
    wrong = [web.client.get("/metrics", token=f"wrong-{n}") for n in range(MAX_FAILURES + 2)]
    assert [it.status for it in wrong] == [401] * MAX_FAILURES + [429] * 2
    assert 1 <= int(wrong[-1].headers["retry-after"]) <= 60
    assert wrong[-1].json["code"] == "too-many-attempts"
    assert web.client.get("/metrics", token=tokens["metrics"]).status == 200
    assert web.client.get("/metrics", token="wrong", peer="203.0.113.8").status == 401


def test_a_revocation_is_in_force_within_five_seconds_without_a_restart(
    web: WebApplication,
) -> None:
    token = make_token(web.database, [Scope.METRICS], name="short-lived")
    assert web.client.get("/metrics", token=token).status == 200
    with web.database.open_transaction() as db:
        revoke_token(db, "short-lived")
    began = time.monotonic()
    while web.client.get("/metrics", token=token).status == 200:
        assert time.monotonic() - began < 5
        time.sleep(0.1)
    with web.database.open_transaction() as db:
        (found,) = (one for one in list_tokens(db) if one.name == "short-lived")
    assert found.last_used_at is not None
    assert (found.last_used_at.second, found.last_used_at.microsecond) == (0, 0)


def test_only_digests_are_stored(web: WebApplication, tokens: dict[str, str]) -> None:
    with web.database.open_transaction() as db:
        rows = db.execute(text("select t::text from sync.api_tokens t")).scalars().all()
    assert rows
    # A secret may have underscores itself: what follows the last one can be a single letter.
    secrets = [token.split("_", 2)[2] for token in tokens.values() if token.count("_") > 1]
    assert len(secrets) == len(tokens) - 1, "all but the malformed one"
    assert not any(secret in row for secret in secrets for row in rows)


def test_without_the_database_nothing_is_allowed_and_health_says_so() -> None:
    nowhere = "postgresql://nobody@127.0.0.1:1/none"
    web = open_application(load_settings(database_url=nowhere))
    try:
        assert web.client.get("/health/live").status == 200
        ready = web.client.get("/health/ready")
        assert (ready.status, ready.json) == (503, {"status": "unready"})
        for route in ENDPOINTS:
            if route.access is Exemption.OPEN:
                continue
            path = re.sub(r"\{\w+\}", "1", route.path)
            reply = web.client.request(route.method, path, token=generate_token().text)
            assert reply.status == 503
            assert reply.headers["retry-after"] == "5"
            assert "127.0.0.1" not in reply.body.decode()
    finally:
        web.close()


def test_readiness_tells_a_reader_the_schema_and_others_a_word(
    web: WebApplication, tokens: dict[str, str]
) -> None:
    assert web.client.get("/health/ready").json == {"status": "ready"}
    assert web.client.get("/health/ready", token=tokens["metrics"]).json == {"status": "ready"}
    details = web.client.get("/health/ready", token=tokens["read"]).json["details"]
    assert details["found_schema"] == details["needed_schema"]


def test_a_database_at_another_schema_is_not_ready(cluster: DatabaseFactory) -> None:
    url = cluster.create_empty()
    web = open_application(load_settings(database_url=url, web_token=BOOTSTRAP))
    try:
        reply = web.client.get("/health/ready", token=BOOTSTRAP)
        assert (reply.status, reply.json["status"]) == (503, "unready")
        assert reply.json["details"]["found_schema"] is None
    finally:
        web.close()
        cluster.drop(url)


def test_every_answer_carries_its_id_and_forbids_what_a_browser_might_do(
    web: WebApplication,
) -> None:
    paths = ("/health/live", "/nothing", "/metrics", "/api/openapi.json")
    replies = [web.client.get(path) for path in paths]
    replies.append(web.client.get("/", host="evil.example"))
    ids = {it.headers["x-request-id"] for it in replies}
    assert len(ids) == len(replies)
    for it in replies:
        assert it.headers["x-content-type-options"] == "nosniff"
        assert it.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in it.headers["content-security-policy"]
        if it.status >= 400:
            assert it.headers["content-type"] == PROBLEM
            assert it.json["request_id"] == it.headers["x-request-id"]
            assert it.json["status"] == it.status


def test_a_method_that_a_route_lacks_is_named(web: WebApplication) -> None:
    for method in ("POST", "PUT", "DELETE", "TRACE", "OPTIONS", "X"):
        reply = web.client.request(method, "/health/live")
        assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD")
    assert web.client.request("HEAD", "/health/live").status == 200


def test_paths_are_compared_exactly(web: WebApplication) -> None:
    for path in (
        "/health/live/",
        "/x/health/live",
        "/health/live/metrics",
        "/metrics/",
        "//metrics",
        "/metrics/health/live",
        "/Health/live",
        "/metrics;x",
    ):
        assert web.client.get(path).status == 404, path


def test_bodies_and_queries_have_bounds(web: WebApplication) -> None:
    too_large = web.client.request("GET", "/health/live", headers={"content-length": "65537"})
    assert too_large.status == 413
    assert web.client.get("/health/ready", query="x=" + "y" * 5000).status == 414
    assert web.client.get("/health/ready", query="&".join(["a=1"] * 51)).status == 400
    assert web.client.get("/health/ready", query="a=%ff").status == 400
    unknown = web.client.get("/health/ready", query="x=<script>")
    assert (unknown.status, unknown.json["errors"][0]["name"]) == (422, "x")
    assert "script" not in unknown.body.decode()


def test_all_mistakes_of_a_query_are_listed_with_what_is_allowed(
    web: WebApplication, tokens: dict[str, str]
) -> None:
    query = "limit=0&colour=red&condition=x&sort=id&sort=name&attention=perhaps"
    reply = web.client.get("/api/connections", query=query, token=tokens["read"])
    assert (reply.status, reply.json["code"]) == (422, "invalid")
    errors = {it["name"]: it for it in reply.json["errors"]}
    assert errors.keys() == {"limit", "colour", "condition", "sort", "attention"}
    assert errors["limit"]["allowed"] == "a whole number from 1 to 200"
    assert "quarantine" in errors["condition"]["allowed"]
    assert "attention" in errors["colour"]["detail"], "known parameters are named"
    assert "perhaps" not in reply.body.decode()


def test_another_scheme_than_bearer_is_answered_with_the_wanted_one(web: WebApplication) -> None:
    reply = web.client.get("/api/fleet", headers={"authorization": "Basic dTpw"})
    assert (reply.status, reply.json["code"]) == (401, "token-invalid")
    assert "bearer token" in reply.json["detail"]


def test_a_bug_is_a_problem_without_its_message(
    web: WebApplication, capfd: pytest.CaptureFixture[str]
) -> None:
    """The metrics of a context without a registry: any error that no one foresaw."""
    broken = WebClient(build_app(replace(web.context, registry=object())))  # type: ignore[arg-type]
    reply = broken.get("/metrics", peer=HOST)
    assert (reply.status, reply.json["code"]) == (500, "internal")
    assert "AttributeError" not in reply.body.decode()


def test_a_token_can_be_used_at_once_though_the_others_were_just_read(web: WebApplication) -> None:
    web.client.get("/metrics", token=generate_token().text)
    token = make_token(web.database, [Scope.METRICS], name="new-born")
    assert web.client.get("/metrics", token=token).status == 200


def test_right_tokens_make_the_server_read_tokens_at_most_every_two_seconds(
    web: WebApplication, tokens: dict[str, str]
) -> None:
    began = time.monotonic()
    reads = count_reads(web, [tokens["metrics"]] * 50)
    assert reads <= 1 + (time.monotonic() - began) / CACHE_SECONDS


def test_unknown_tokens_make_the_server_read_tokens_at_most_ten_times_a_second(
    web: WebApplication,
) -> None:
    unknown = [generate_token().text for _ in range(50)]
    began = time.monotonic()
    reads = count_reads(web, unknown)
    assert reads <= 1 + (time.monotonic() - began) / UNKNOWN_SECONDS


def count_reads(web: WebApplication, tokens: Sequence[str]) -> int:
    """How often requests with these tokens read the stored ones."""
    seen: list[str] = []

    def note(*args: Any) -> None:
        seen.append(args[2])

    event.listen(web.database._engine, "before_cursor_execute", note)
    for one in tokens:
        web.client.get("/metrics", token=one)
    event.remove(web.database._engine, "before_cursor_execute", note)
    return sum(one.startswith("SELECT") and api_tokens.name in one for one in seen)


def test_names_of_revoked_tokens_can_be_used_again(database: Database) -> None:
    make_token(database, [Scope.READ], name="grafana")
    with database.open_transaction() as db:
        revoke_token(db, "grafana")
    make_token(database, [Scope.METRICS], name="grafana")
    with database.open_transaction() as db:
        (found,) = list_tokens(db)
    assert (found.scopes, found.state) == ((Scope.METRICS,), "usable")
