"""What the API tells: pages that lose nothing, counts that follow the filter, hostile names."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import event, text

from models.api_token import Scope
from models.audit import AuditOutcome, Via
from models.resources import RESOURCES
from sandbox.servers import Servers
from tests.support.databases import DatabaseFactory
from tests.support.fleet import fill_fleet, revive_service
from tests.support.hostile import CANARY_PERSON, HOSTILE_NAMES, plant_names
from tests.support.mirror import Mirror
from tests.support.web import WebApplication, open_application
from worker.core.settings import load_settings
from worker.store.service.audit import Actor, record_audit
from worker.web.history_answers import RunAnswer
from worker.web.routes import ENDPOINTS

NUMBER = 2000
TOKEN = "a-token-of-the-first-hour-0123456789"


@pytest.fixture(scope="module")
def web(cluster: DatabaseFactory, servers: Servers) -> Iterator[WebApplication]:
    """A fleet of two thousand customers of one name and age, and a few that misuse their names."""
    url = cluster.create_migrated()
    settings = load_settings(database_url=url, redis_url=servers.redis_url, web_token=TOKEN)
    opened = open_application(settings)
    fill_fleet(opened.database, NUMBER, runs=1)
    with opened.database.open_transaction() as db:
        db.execute(text("update sync.connections set display_name = 'Contoso'"))
        db.execute(text("update sync.streams set fresh_at = '2026-11-01T00:00:00Z'"))
        db.execute(
            text("""
                update sync.connections set status = 'broken', status_reason = 'consent revoked'
                 where id % 100 = 0
            """)
        )
    plant_names(opened.database)
    opened.client.token = TOKEN
    yield opened
    opened.close()
    cluster.drop(url)


@pytest.fixture(autouse=True)
def _alive(web: WebApplication) -> None:
    revive_service(web.database)
    web.context.fleet.invalidate()


def walk(web: WebApplication, **query: Any) -> Iterator[dict[str, Any]]:
    after: dict[str, str] = {}
    while True:
        reply = web.client.get("/api/connections", query={**query, **after, "limit": 200})
        assert reply.status == 200, reply.json
        yield from reply.json["connections"]
        if reply.json["next"] is None:
            return
        after = {"after": reply.json["next"]}


@pytest.mark.parametrize("sort", ["id", "name", "age", "severity"])
def test_no_row_of_equal_keys_is_lost_or_doubled_by_paging(web: WebApplication, sort: str) -> None:
    ids = []
    for number, row in enumerate(walk(web, sort=sort)):
        ids.append(row["id"])
        if number % 500 == 250:  # rows change on the way
            with web.database.open_transaction() as db:
                values = {"id": row["id"]}
                db.execute(
                    text("update sync.connections set due_at = now() where id = :id"), values
                )
            web.context.fleet.invalidate()
    assert sorted(ids) == list(range(1, NUMBER + 1))


def test_counts_follow_the_filter(web: WebApplication) -> None:
    broken = web.client.get("/api/connections", query={"status": "broken", "limit": 3}).json
    assert (broken["total"], broken["statuses"]) == (NUMBER // 100, {"broken": NUMBER // 100})
    assert len(broken["connections"]) == 3
    assert broken["conditions"]["refused_by_nango"] == NUMBER // 100
    both = web.client.get(
        "/api/connections", query={"condition": ["refused_by_nango"], "text": "100"}
    )
    assert 1 <= both.json["total"] < NUMBER // 100
    assert 100 in [it["id"] for it in both.json["connections"]]
    nothing = web.client.get("/api/connections", query={"text": "no such customer"}).json
    assert (nothing["total"], nothing["connections"], nothing["next"]) == (0, [], None)


def test_a_connection_says_what_is_wrong_what_to_do_and_what_it_waits_for(
    web: WebApplication,
) -> None:
    told = web.client.get("/api/connections/100").json
    assert (told["status"], told["needs_attention"]) == ("broken", True)
    (condition,) = (it for it in told["conditions"] if it["code"] == "refused_by_nango")
    assert condition["remedy"]
    assert condition["anchor"].startswith("docs/operations.md#condition-")
    assert told["activity"]["sentence"]
    assert told["outcome"]["state"] == "succeeded"
    assert [it["resource"] for it in told["freshness"]] == [*RESOURCES], "edges, too"
    assert web.client.get("/api/connections/999999").status == 404
    assert web.client.get("/api/connections/x").status == 404
    assert web.client.get(f"/api/connections/{2**63}").status == 404


@pytest.mark.parametrize(
    "query",
    [
        {"limit": 0},
        {"limit": 201},
        {"limit": "ten"},
        {"status": "gone"},
        {"condition": "no_such"},
        {"sort": "display_name"},
        {"after": "not a key"},
        {"text": "x" * 101},
        {"text": ["a", "b"]},
        {"attention": "maybe"},
        {"colour": "red"},
    ],
    ids=str,
)
def test_a_query_that_cannot_be_is_refused_by_name(
    web: WebApplication, query: dict[str, Any]
) -> None:
    reply = web.client.get("/api/connections", query=query)
    assert (reply.status, reply.json["code"]) == (422, "invalid")
    for value in query.values():
        assert not isinstance(value, str) or f'"{value}"' not in reply.body.decode()


def test_the_fleet_is_well_while_its_parts_work(web: WebApplication) -> None:
    well = web.client.request("GET", "/health/fleet", headers={"authorization": f"Bearer {TOKEN}"})
    assert (well.status, well.json["status"]) == (200, "well")
    with web.database.open_transaction() as db:
        db.execute(text("update sync.workers set seen_at = now() - interval '1 hour'"))
    web.context.fleet.invalidate()
    web.client.token = None
    try:
        unwell = web.client.get("/health/fleet")
    finally:
        web.client.token = TOKEN
    assert unwell.status == 503
    assert unwell.json["parts"]["workers"] == "unwell"
    assert unwell.json["parts"]["dispatcher"] == "well"
    assert unwell.json.keys() == {"status", "parts"}, "status words only"
    details = web.client.get("/health/fleet").json["conditions"]
    assert any(it["code"] == "workers_silent" for it in details)


def test_the_fleet_is_described(web: WebApplication) -> None:
    told = web.client.get("/api/fleet").json
    assert told["connections"] == NUMBER
    assert told["statuses"]["broken"] == NUMBER // 100
    assert [it["is_alive"] for it in told["workers"]] == [True]


def test_many_requests_share_one_look_and_a_list_needs_few_statements(web: WebApplication) -> None:
    seen: list[str] = []
    event.listen(web.database._engine, "before_cursor_execute", lambda *it: seen.append(it[2]))
    web.context.fleet.invalidate()
    for _ in range(20):
        assert web.client.get("/api/connections", query={"limit": 5}).status == 200
    assert len(seen) <= 2 * 5, seen


def test_runs_are_paged_and_filtered(web: WebApplication) -> None:
    with web.database.open_transaction() as db:
        db.execute(
            text("""
                insert into sync.runs (connection_id, trigger, state, error)
                select 7, 'scheduled', case when n % 2 = 0 then 'failed' else 'succeeded' end,
                       case when n % 2 = 0 then 'no answer' end
                  from generate_series(1, 25) n
            """)
        )
    path = "/api/connections/7/runs"
    first = web.client.get(path, query={"limit": 10}).json
    second = web.client.get(path, query={"limit": 10, "after": first["next"]}).json
    third = web.client.get(path, query={"limit": 10, "after": second["next"]}).json
    ids = [run["id"] for page in (first, second, third) for run in page["runs"]]
    assert (ids, third["next"]) == (sorted(set(ids), reverse=True), None)
    assert len(ids) == 26
    failed = web.client.get(path, query={"state": "failed", "limit": 100}).json["runs"]
    assert {run["state"] for run in failed} == {"failed"}
    one = web.client.get(f"/api/runs/{failed[0]['id']}").json
    assert one["error"] == "no answer"
    assert one.keys() == set(RunAnswer.__struct_fields__)
    assert web.client.get("/api/runs/999999999").status == 404
    assert web.client.get("/api/connections/999999/runs").status == 404


def test_the_audit_is_paged(web: WebApplication) -> None:
    with web.database.open_transaction() as db:
        for number in range(12):
            actor = Actor("ann" if number % 2 else "robot", Via.API, "req")
            record_audit(db, actor, "pause", AuditOutcome.DONE, connection_id=number)
    first = web.client.get("/api/audit", query={"limit": 5, "actor": "ann"}).json
    rest = web.client.get("/api/audit", query={"limit": 5, "actor": "ann", "after": first["next"]})
    told = [*first["entries"], *rest.json["entries"]]
    assert [it["connection_id"] for it in told] == [11, 9, 7, 5, 3, 1]
    assert rest.json["next"] is None
    assert web.client.get("/api/audit", query={"connection": 4}).json["entries"][0]["via"] == "api"


def test_hostile_names_reach_no_header_and_no_log(
    web: WebApplication, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.WARNING, "asyncio"):
        listed = {row["id"]: row for row in walk(web)}
        for number, name in enumerate(HOSTILE_NAMES, 1):
            reply = web.client.get(f"/api/connections/{number}")
            assert (reply.json["name"] or "") == name
            raw = reply.body.decode()
            assert "\n" not in raw
            assert "\x1b" not in raw
            assert listed[number]["name"] == reply.json["name"]
            web.client.get("/api/connections", query={"text": name[:100]})
            web.client.get(f"/api/{name[:50]}", query={"q": name[:50]})
            web.client.get("/metrics", headers={"user-agent": name[:9], "referer": "x"})
    out = capfd.readouterr()
    logs = caplog.text + out.out + out.err
    for reply in web.client.replies:
        headers = json.dumps(dict(reply.headers))
        assert not any(name and name in headers for name in HOSTILE_NAMES)
        assert all("\n" not in value and "\r" not in value for value in reply.headers.values())
    for name in (*HOSTILE_NAMES, CANARY_PERSON, TOKEN):
        assert not name or name not in logs


def test_people_and_secrets_reach_no_log_error_or_metric(mirror: Mirror) -> None:
    """A real mirror with people in it; only the changes of a connection name them."""
    settings = mirror.runtime.settings
    web = open_application(settings)
    token = web.make_token(*Scope)
    with web.database.open_transaction() as db:
        people = db.execute(text("select display_name from directory.users")).scalars().all()
        number = db.execute(text("select id from sync.connections")).scalar_one()
    names = [name for name in people if name and " " in name]
    assert names
    try:
        for route in ENDPOINTS:
            path = route.path.replace("{connection_id}", str(number)).replace("{run_id}", "1")
            query = {"initial": "true"} if path.endswith("/changes") else {}
            body = web.client.request(route.method, path, token=token, query=query).body.decode()
            if path.endswith("/changes"):
                assert any(name in body for name in names), "what changed is named"
                assert '"before"' not in body
                continue
            assert not any(name in body for name in names), path
            assert nango_key(mirror) not in body
    finally:
        web.close()


def nango_key(mirror: Mirror) -> str:
    key = mirror.runtime.settings.nango_secret_key
    assert key is not None
    return key.get_secret_value()


def test_changes_are_counted_and_paged_without_first_loads(mirror: Mirror) -> None:
    web = open_application(mirror.runtime.settings)
    web.client.token = web.make_token(Scope.READ)
    with web.database.open_transaction() as db:
        number = db.execute(text("select id from sync.connections")).scalar_one()
    path = f"/api/connections/{number}/changes"
    try:
        (added,) = web.client.get(path).json["counts"]
        assert (added["resource"], added["change"]) == ("connection", "added")
        told = web.client.get(path, query={"initial": "true", "resource": "users"}).json
        (count,) = told["counts"]
        assert (count["resource"], count["change"], count["number"]) == ("users", "created", 60)
        seen: list[int] = []
        after: dict[str, Any] = {}
        while True:
            query = {"initial": "true", "limit": 25, "resource": "users", **after}
            page = web.client.get(path, query=query).json
            seen += [it["seq"] for it in page["changes"]]
            if page["next"] is None:
                break
            after = {"after": page["next"]}
        assert (len(seen), seen) == (60, sorted(set(seen), reverse=True))
        future = web.client.get(path, query={"since": "2999-01-01T00:00:00Z"})
        assert (future.status, future.json["code"]) == (422, "invalid")
        for odd in ("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "yesterday", "1"):
            assert web.client.get(path, query={"since": odd}).status in (200, 422), odd
        assert web.client.get(path, query={"resource": "pets"}).status == 422
    finally:
        web.close()


@pytest.mark.parametrize("number", ["2026", "1767225600", "-1", "1e9", "2026.5"])
def test_a_bare_number_is_no_time(web: WebApplication, number: str) -> None:
    """It could be a year, or Unix seconds."""
    refused = web.client.get("/api/connections/1/changes", query={"since": number})
    assert (refused.status, refused.json["code"]) == (422, "invalid")
    (mistake,) = refused.json["errors"]
    assert mistake["name"] == "since"
    assert "2026-01-31T12:00:00Z" in mistake["allowed"]
