"""Actions over the API: queued with what was seen, once for each key, and audited."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text

from models.api_token import Scope
from tests.support.databases import DatabaseFactory
from tests.support.fleet import fill_fleet, revive_service
from tests.support.web import WebApplication, WebReply, open_application
from worker.core.settings import load_settings
from worker.operations.execute import execute

NUMBER = 20


@pytest.fixture(scope="module")
def template(cluster: DatabaseFactory) -> Iterator[str]:
    """A database with a small fleet, two of them retired; it is copied for each test."""
    url = cluster.create_migrated()
    opened = open_application(load_settings(database_url=url))
    fill_fleet(opened.database, NUMBER)
    with opened.database.open_transaction() as db:
        db.execute(
            text("update sync.connections set status = 'retired', retired_at = now() where id > 18")
        )
        db.execute(text("update sync.runs set calls = 7"))
        db.execute(text("update sync.connections set display_name = 'Customer ' || id"))
    opened.close()
    yield url
    cluster.drop(url)


@pytest.fixture
def web(template: str, cluster: DatabaseFactory) -> Iterator[WebApplication]:
    url = cluster.clone(template)
    opened = open_application(load_settings(database_url=url))
    revive_service(opened.database)
    opened.client.token = opened.make_token(Scope.OPERATE, Scope.READ, name="portal")
    yield opened
    opened.close()
    cluster.drop(url)


def run(web: WebApplication, reply: WebReply) -> dict[str, Any]:
    """Carry out the operation of a reply, as a worker would; what the API says of it then."""
    assert reply.status == 202, reply.body
    assert reply.headers["location"] == f"/api/operations/{reply.json['id']}"
    waiting = web.client.get(reply.headers["location"]).json
    assert waiting["operation"]["state"] == "queued"
    with web.database.open_transaction() as db:
        held = text("select coalesce(held_until < clock_timestamp(), true) from sync.operations")
        assert db.execute(held).scalars().all()[-1], "the next tick sends it"
    assert execute(web.database, reply.json["id"])
    done: dict[str, Any] = web.client.get(reply.headers["location"]).json
    assert done["operation"]["finished_at"]
    return done


def entries(web: WebApplication) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = web.client.get("/api/audit").json["entries"]
    return told[::-1]


def test_a_pause_and_a_resume_are_carried_out_and_audited(web: WebApplication) -> None:
    paused = web.client.post("/api/connections/3/pause", {"reason": "moving house"})
    done = run(web, paused)
    assert (done["operation"]["state"], done["counts"]["done"]) == ("succeeded", 1)
    told = web.client.get("/api/connections/3").json
    assert (told["pause"]["by"], told["pause"]["reason"]) == ("portal", "moving house")
    assert told["activity"]["state"] == "paused"
    run(web, web.client.post("/api/connections/3/resume"))
    assert web.client.get("/api/connections/3").json["pause"] is None
    audited = [(it["action"], it["actor"], it["via"], it["outcome"]) for it in entries(web)]
    assert audited[:2] == [
        ("pause", "portal", "api", "accepted"),
        ("pause", "portal", "api", "done"),
    ]
    assert entries(web)[0]["request_id"] == paused.headers["x-request-id"]


def test_a_resync_names_its_resources(web: WebApplication) -> None:
    run(web, web.client.post("/api/connections/1/resync", {"resources": ["users"], "full": True}))
    with web.database.open_transaction() as db:
        row = db.execute(
            text("select requested_resources, requested_full from sync.connections where id = 1")
        ).one()
    assert tuple(row) == (["users"], True)


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/api/connections/99/pause", None, 404, "not-found"),
        ("/api/connections/19/resync", None, 409, "conflict"),
        ("/api/connections/1/resync", {"resources": ["pets"]}, 422, "invalid"),
        ("/api/connections/1/resync", {"full": "yes"}, 422, "invalid"),
        ("/api/connections/1/resync", {"fully": True}, 422, "invalid"),
        ("/api/connections/1/resync", [1], 422, "invalid"),
        ("/api/connections/1/pause", {"reason": "a\x00b"}, 422, "invalid"),
        ("/api/connections/1/pause", {"reason": "x" * 501}, 422, "invalid"),
        ("/api/connections/1/pause", {"until": "2001-01-01T00:00:00Z"}, 422, "invalid"),
        ("/api/connections/1/pause", {"until": "2999-01-01T00:00:00"}, 422, "invalid"),
        ("/api/connections/1/pause", {"until": "0001-01-01T00:00:00+23:59"}, 422, "invalid"),
        ("/api/connections/1/approve", {}, 422, "invalid"),
        ("/api/connections/1/approve", {"expected": {"users": {"count": 1}}}, 422, "invalid"),
        ("/api/bulk/pause", {}, 422, "invalid"),
        ("/api/bulk/pause", {"filter": {}}, 422, "invalid"),
        ("/api/bulk/pause", {"filter": {"text": "no such"}, "expected_count": 1}, 409, "changed"),
    ],
)
def test_an_action_that_cannot_be_is_refused_without_any_effect(
    web: WebApplication, path: str, body: object, status: int, code: str
) -> None:
    reply = web.client.post(path, body)
    assert (reply.status, reply.json["code"]) == (status, code), reply.body
    with web.database.open_transaction() as db:
        assert db.execute(text("select count(*) from sync.operations")).scalar_one() == 0
        paused = text("select count(*) from sync.connections where operator_paused_at is not null")
        assert db.execute(paused).scalar_one() == 0
    if status == 422:
        assert reply.json["errors"], "the field is named"
    if status in (404, 409):
        (entry,) = entries(web)
        assert (entry["outcome"], entry["actor"]) == ("refused", "portal")


def test_all_mistakes_of_a_body_are_listed(web: WebApplication) -> None:
    body = {"reason": "", "filter": {"ids": [0], "z": 1}, "dry_run": 3, "fully": True}
    reply = web.client.post("/api/bulk/pause", body)
    names = {it["name"] for it in reply.json["errors"]}
    assert names == {"reason", "filter.ids", "filter.z", "dry_run", "fully"}
    approve = {"expected": {"users": {"count": 1}, "groups": {"count": -1, "digest": "a"}}}
    reply = web.client.post("/api/connections/1/approve", approve)
    names = {it["name"] for it in reply.json["errors"]}
    assert names == {"expected.users.digest", "expected.groups.count"}


def test_operations_are_listed_newest_first_and_say_what_they_wait_for(
    web: WebApplication,
) -> None:
    ids = [web.client.post(f"/api/connections/{n}/pause").json["id"] for n in (1, 2, 3)]
    waiting = web.client.get(f"/api/operations/{ids[0]}").json["sentence"]
    assert waiting.startswith("queued; the next tick, within"), waiting
    assert web.client.get("/api/connections/1").json["open_operations"] == [ids[0]]
    assert execute(web.database, ids[0])
    finished = web.client.get(f"/api/operations/{ids[0]}").json["sentence"]
    assert finished.startswith("finished at")
    assert finished.endswith("1 of 1 connection done")
    assert web.client.get("/api/connections/1").json["open_operations"] == []

    def list_ids(**query: object) -> list[int]:
        told = web.client.get("/api/operations", query=query).json
        return [it["id"] for it in told["operations"]]

    assert list_ids() == ids[::-1]
    assert list_ids(state="queued") == ids[:0:-1]
    assert list_ids(connection=2) == [ids[1]]
    first = web.client.get("/api/operations", query={"limit": 2}).json
    assert (len(first["operations"]), first["next"]) == (2, ids[1])
    assert list_ids(after=first["next"]) == [ids[0]]
    with web.database.open_transaction() as db:
        db.execute(text("delete from sync.workers"))
    web.context.fleet.invalidate()
    unserved = web.client.get(f"/api/operations/{ids[1]}").json["sentence"]
    assert "which none does now" in unserved


def test_an_action_that_waits_can_be_cancelled(web: WebApplication) -> None:
    asked = web.client.post("/api/connections/3/pause", {"reason": "moving house"})
    where = asked.headers["location"]
    done = web.client.post(f"{where}/cancel")
    assert (done.status, done.json["state"]) == (200, "cancelled")
    told = web.client.get(where).json
    assert told["sentence"].startswith("cancelled by portal at ")
    assert (told["counts"]["cancelled"], told["counts"]["queued"]) == (1, 0)
    assert web.client.get("/api/connections/3").json["open_operations"] == []
    assert entries(web)[-1]["action"] == "operations.cancel"
    ended = web.client.post("/api/connections/3/resume")
    run(web, ended)
    refused = web.client.post(f"{ended.headers['location']}/cancel")
    assert (refused.status, refused.json["code"]) == (409, "conflict")
    assert web.client.post("/api/operations/4711/cancel").status == 404


def test_bodies_must_be_json_and_small(web: WebApplication) -> None:
    path = "/api/connections/1/pause"
    plain = web.client.request("POST", path, body=b"{}", headers={"content-type": "text/plain"})
    assert (plain.status, plain.json["code"]) == (415, "media-type")
    assert web.client.request("POST", path, body=b"{}").status == 415
    json = {"content-type": "application/json; charset=utf-8"}
    assert web.client.request("POST", path, body=b"{", headers=json).status == 400
    assert web.client.request("POST", path, body=b"\xff", headers=json).status == 400
    deep = b"[" * 60_000
    assert web.client.request("POST", path, body=deep, headers=json).status == 400
    large = b'{"reason": "' + b"x" * 70_000 + b'"}'
    assert web.client.request("POST", path, body=large, headers=json).status == 413


def test_a_key_makes_a_repeated_request_harmless(web: WebApplication) -> None:
    path, key = "/api/connections/3/pause", {"idempotency-key": "ticket-1"}
    first = web.client.post(path, {"reason": "a"}, headers=key)
    again = web.client.post(path, {"reason": "a"}, headers=key)
    assert (first.status, again.status) == (202, 202)
    assert (again.json, again.headers["location"]) == (first.json, first.headers["location"])
    other_body = web.client.post(path, {"reason": "b"}, headers=key)
    assert (other_body.status, other_body.json["code"]) == (422, "key-reused")
    other_path = web.client.post("/api/connections/4/pause", {"reason": "a"}, headers=key)
    assert (other_path.status, other_path.json["code"]) == (422, "key-reused")
    other_client = web.client.post(
        path, {"reason": "a"}, headers=key, token=web.make_token(Scope.OPERATE)
    )
    assert other_client.status in (401, 202)
    odd = web.client.post(path, headers={"idempotency-key": "two words"})
    assert odd.status == 422


def test_a_resync_is_requested_and_each_connection_has_the_run_that_followed(
    web: WebApplication,
) -> None:
    done = run(web, web.client.post("/api/connections/3/resync"))
    assert (done["operation"]["state"], done["operation"]["outcome"]) == ("succeeded", "requested")
    assert "the next run of each" in done["sentence"]
    (one,) = done["connections"]
    assert one["detail"].startswith("requested; ")
    assert one["sync"]["waits"]
    assert (one["sync"]["is_over"], one["sync"]["run_id"]) == (False, None)
    (listed,) = web.client.get("/api/operations").json["operations"]
    assert listed["outcome"] == "requested"
    with web.database.open_transaction() as db:
        db.execute(
            text("""
                insert into sync.runs (connection_id, trigger, state, started_at, finished_at)
                values (3, 'manual', 'succeeded', clock_timestamp(), clock_timestamp())
            """)
        )
        db.execute(text("update sync.connections set requested_at = null where id = 3"))
    web.context.fleet.invalidate()
    (after,) = web.client.get(f"/api/operations/{listed['id']}").json["connections"]
    assert after["sync"]["is_over"]
    assert after["sync"]["run_state"] == "succeeded"
    paused = run(web, web.client.post("/api/connections/3/pause"))
    assert (paused["operation"]["outcome"], paused["connections"][0]["sync"]) == ("done", None)


def test_a_bulk_action_says_its_price_and_needs_the_number_repeated(web: WebApplication) -> None:
    wanted = {"filter": {"text": "Customer 1"}}
    price = web.client.post("/api/bulk/resync", {**wanted, "dry_run": True})
    assert (price.status, price.json["connections"]) == (200, 10), "1, and 10 to 18"
    assert (price.json["calls"], price.json["left_out"]) == (70, {"retired": 1})
    assert price.json["minutes"] is None
    assert "cannot be estimated" in price.json["note"]
    refused = web.client.post("/api/bulk/resync", {**wanted, "expected_count": 9})
    assert (refused.status, refused.json["code"], refused.json["current"]) == (409, "changed", 10)
    done = run(web, web.client.post("/api/bulk/resync", {**wanted, "expected_count": 10}))
    assert done["counts"] == {"queued": 0, "done": 10, "failed": 0, "cancelled": 0}
    assert done["operation"]["parameters"]["filter"]["text"] == "Customer 1"
    page = web.client.get(f"/api/operations/{done['operation']['id']}", query={"limit": 4}).json
    assert (len(page["connections"]), page["next"]) == (4, 12)
    with web.database.open_transaction() as db:
        asked = text("select count(*) from sync.connections where requested_at is not null")
        assert db.execute(asked).scalar_one() == 10


def test_pause_and_resume_in_bulk_leave_retired_connections_out(web: WebApplication) -> None:
    everything: dict[str, Any] = {"filter": {}}
    price = web.client.post("/api/bulk/pause", {**everything, "dry_run": True}).json
    assert (price["connections"], price["left_out"]) == (18, {"retired": 2})
    assert (price["calls"], price["minutes"], price["note"]) == (0, 0.0, None)
    body = {**everything, "expected_count": 18, "reason": "maintenance"}
    run(web, web.client.post("/api/bulk/pause", body))
    listed = web.client.get("/api/connections", query={"condition": "paused_by_operator"}).json
    assert listed["total"] == 18
    some = {"filter": {"ids": [2, 3]}, "expected_count": 2}
    run(web, web.client.post("/api/bulk/resume", some))
    listed = web.client.get("/api/connections", query={"condition": "paused_by_operator"}).json
    assert listed["total"] == 16


def hold(web: WebApplication, *keys: str) -> None:
    with web.database.open_transaction() as db:
        for key in keys:
            db.execute(
                text("""
                    insert into sync.removals (connection_id, resource, key, reason, noted_at, held)
                    values (1, 'users', :key, 'swept', now(), true)
                """),
                {"key": key},
            )


def test_an_approval_is_refused_if_more_is_held_than_was_seen(web: WebApplication) -> None:
    path = "/api/connections/1/held"
    assert web.client.get(path).json == {"resources": [], "objects": [], "next": None}
    keys = [f"00000000-0000-0000-0000-00000000000{n}" for n in range(4)]
    hold(web, *keys[:3])
    seen = web.client.get(path, query={"resource": "users", "limit": 2}).json
    (users,) = seen["resources"]
    assert (users["count"], [it["key"] for it in seen["objects"]]) == (3, keys[:2])
    rest = web.client.get(path, query={"resource": "users", "after": seen["next"]}).json
    assert ([it["key"] for it in rest["objects"]], rest["next"]) == (keys[2:3], None)
    expected = {"expected": {"users": {"count": users["count"], "digest": users["digest"]}}}
    hold(web, keys[3])
    for action in ("approve", "reject"):
        refused = web.client.post(f"/api/connections/1/{action}", expected)
        assert (refused.status, refused.json["code"]) == (409, "changed")
        assert refused.json["current"][0]["count"] == 4
    assert web.client.get(path).json["resources"][0]["count"] == 4, "nothing was done"
    now = refused.json["current"][0]
    again = {"expected": {"users": {"count": now["count"], "digest": now["digest"]}}}
    assert web.client.post("/api/connections/1/approve", again).status == 202


def test_a_reader_cannot_act(web: WebApplication) -> None:
    reader = web.make_token(Scope.READ)
    reply = web.client.post("/api/connections/1/pause", {}, token=reader)
    assert (reply.status, reply.json["code"]) == (403, "scope-missing")
    assert entries(web) == []
