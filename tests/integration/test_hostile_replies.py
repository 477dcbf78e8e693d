"""Replies that lie, break or refuse: each costs itself and nothing else."""

import json
import uuid
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from models.run import RunState, RunTrigger
from sandbox.tenant import Request, Response, Server, Tenant
from sandbox.tenant.graph.service import GraphService
from tests.support.mirror import (
    MakeMirror,
    Mirror,
    assert_exact,
    compute_mirror_truth,
    fetch_scalar,
    read_last_seq,
)
from worker.core.errors import ConfigurationError
from worker.graph.throttle import GraphThrottle
from worker.nango.client import NangoClient, RetryPolicy
from worker.store.state.quarantine import MAX_QUARANTINED
from worker.sync.connections.discover import discover
from worker.sync.plan import SyncRequest
from worker.sync.run import run_slice

pytestmark = pytest.mark.first_resources

WEB_PAGE = Response(200, b"<!doctype html><title>Nango</title>", {"content-type": "text/html"})
GRAPH = {"content-type": "application/json", "request-id": "simulated"}


def answer(body: object, status: int = 200) -> Response:
    return Response(status, json.dumps(body).encode(), GRAPH)


def test_a_malformed_object_is_kept_apart_and_the_rest_is_mirrored(make_mirror: MakeMirror) -> None:
    mirror = make_mirror(Tenant(seed=6, users=20, groups=2))
    bad = mirror.tenant.users.id_at(3)

    def spoil(request: Request) -> Response | None:
        listed = list(mirror.tenant.iterate_live("users"))
        for user in listed:
            if user["id"] == bad:
                user["@removed"] = "perhaps 4000002"
                if request.path.endswith(f"/users/{bad}"):
                    return answer(user)
        return answer({"value": listed}) if request.path.endswith("/users") else None

    mirror.nango.before_graph = spoil
    report = mirror.sync("users")
    assert report.state is RunState.PARTIAL
    assert compute_mirror_truth(mirror.database)["users"].count == 19
    found = fetch_scalar(mirror.database, "select key || ': ' || reason from sync.quarantine")
    assert found.startswith(bad.lower())
    assert "@removed" in found
    assert "4000002" not in found
    mirror.nango.before_graph = None
    assert mirror.sync().state is RunState.SUCCEEDED
    assert fetch_scalar(mirror.database, "select count(*) from sync.quarantine") == 0
    assert_exact(mirror.database, mirror.tenant)


def test_an_object_that_turns_malformed_keeps_its_row(mirror: Mirror) -> None:
    bad = mirror.tenant.users.id_at(3)

    def spoil(request: Request) -> Response | None:
        listed = list(mirror.tenant.iterate_live("users"))
        for user in listed:
            if user["id"] == bad:
                user["@removed"] = "perhaps"
                if request.path.endswith(f"/users/{bad}"):
                    return answer(user)
        return answer({"value": listed}) if request.path.endswith("/users") else None

    mark = read_last_seq(mirror.database)
    mirror.nango.before_graph = spoil
    assert mirror.sync("users", full=True).state is RunState.PARTIAL
    assert read_last_seq(mirror.database) == mark
    assert compute_mirror_truth(mirror.database)["users"].count == 60


@pytest.mark.parametrize("lure", ["users?$skiptoken=nobody", "groups", "https://evil.example/"])
def test_a_next_link_in_a_wrong_place_is_asked_for_in_vain(
    make_mirror: MakeMirror, lure: str
) -> None:
    """The page behind is asked for at once; the page in hand, understood, has the last word."""
    mirror = make_mirror(Tenant(seed=6, users=2100, groups=2))
    link = lure if "//" in lure else f"https://graph.microsoft.com/v1.0/{lure}"

    def mislead(request: Request) -> Response | None:
        if not request.path.endswith("/users"):
            return None
        response = GraphService().handle(mirror.tenant, request)
        decoy = b'{"decoy":{"@odata.nextLink":"%b"},' % link.encode()
        return replace(response, body=decoy + response.body[1:])

    mirror.nango.before_graph = mislead
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, mirror.tenant)


def test_an_object_without_an_id_keeps_the_walk_from_sweeping(mirror: Mirror) -> None:
    listed = list(mirror.tenant.iterate_live("users"))[:50]
    page = {"value": [*listed, {"displayName": "Nobody"}]}
    mirror.nango.before_graph = lambda r: answer(page) if r.path.endswith("/users") else None
    report = mirror.sync("users", full=True)
    assert report.state is RunState.PARTIAL
    assert compute_mirror_truth(mirror.database)["users"].count == 60


def test_a_page_of_wrong_objects_is_noted_up_to_a_bound_and_nothing_is_swept(
    mirror: Mirror,
) -> None:
    listed = list(mirror.tenant.iterate_live("users"))[:50]
    page = {"value": [*listed, *({"id": n, "displayName": "Nobody"} for n in range(20_000))]}
    mirror.nango.before_graph = lambda r: answer(page) if r.path.endswith("/users") else None
    assert mirror.sync("users", full=True).state is RunState.PARTIAL
    assert compute_mirror_truth(mirror.database)["users"].count == 60
    noted = "select string_agg(reason, ' ' order by key) from sync.quarantine"
    assert "19,000 more objects of one page were not read" in fetch_scalar(mirror.database, noted)
    assert fetch_scalar(mirror.database, "select count(*) from sync.quarantine") < 10
    mirror.nango.before_graph = None
    assert mirror.sync("users", full=True).state is RunState.SUCCEEDED
    assert_exact(mirror.database, mirror.tenant)
    assert fetch_scalar(mirror.database, "select count(*) from sync.quarantine") == 0


def test_many_wrong_objects_with_names_are_remembered_up_to_a_bound(mirror: Mirror) -> None:
    wrong = [{"id": str(uuid.UUID(int=n)), "@removed": n} for n in range(1, 1_501)]
    page = {"value": [*mirror.tenant.iterate_live("users"), *wrong]}
    mirror.nango.before_graph = lambda r: answer(page) if r.path.endswith("/users") else None
    assert mirror.sync("users", full=True).state is RunState.PARTIAL
    assert compute_mirror_truth(mirror.database)["users"].count == 60
    noted = fetch_scalar(mirror.database, "select count(*) from sync.quarantine")
    assert MAX_QUARANTINED // 2 < noted <= MAX_QUARANTINED + 1, (
        "some are asked for by their ids, and are not there"
    )
    more = "select reason from sync.quarantine where key = 'unreadable:more'"
    assert "500 more objects" in fetch_scalar(mirror.database, more)


def test_a_next_link_to_a_foreign_host_is_not_followed(mirror: Mirror) -> None:
    page = {"value": [], "@odata.nextLink": "https://graph.example.com/v1.0/users?$skiptoken=x"}
    mirror.nango.before_graph = lambda r: answer(page) if r.path.endswith("/users") else None
    report = mirror.sync("users", full=True)
    assert report.state is RunState.PARTIAL
    assert "another host" in (report.message or "")
    assert not any("example.com" in logged.request.path for logged in mirror.nango.log)


def test_a_walk_that_goes_in_circles_ends(mirror: Mirror) -> None:
    page = {
        "value": list(mirror.tenant.iterate_live("users"))[:5],
        "@odata.nextLink": "https://graph.microsoft.com/v1.0/users?$skiptoken=same",
    }
    mirror.nango.before_graph = lambda r: answer(page) if r.path.endswith("/users") else None
    report = mirror.sync("users", full=True)
    assert report.state is RunState.PARTIAL
    assert "a cycle" in (report.message or "")
    mirror.nango.before_graph = None
    mirror.sync()
    assert_exact(mirror.database, mirror.tenant)


def test_members_that_go_in_circles_confirm_no_deletion(mirror: Mirror) -> None:
    """A walk misses a membership, and the list that is to confirm it never ends."""
    tenant, log = mirror.tenant, mirror.tenant.change_log["groups"]
    shown = (
        row["id"]
        for row in tenant.iterate_live("groups")
        if row.get("visibility") != "HiddenMembership"
    )
    group = next(one for one in shown if tenant.members_of(one))
    place = len(log)
    tenant.remove_member(group, tenant.members_of(group)[0].id)
    log[place] = (0, None)  # no delta tells of it
    mark = read_last_seq(mirror.database)
    tenant.options.loop, tenant.options.loop_start_page = "empty", 0
    tenant.options.loop_paths = {"groups/{id}/members"}
    report = mirror.sync("groups", full=True)
    assert report.state is RunState.PARTIAL
    assert "a cycle" in (report.message or "")
    assert read_last_seq(mirror.database) == mark
    tenant.options.loop = ""
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b'{"value": [{"id": "', b'{"no": "value"}', b"[]"]
)
def test_a_body_that_is_no_page_is_not_used(mirror: Mirror, body: bytes) -> None:
    mirror.nango.before_graph = lambda r: (
        Response(200, body, GRAPH) if r.path.endswith("/users") else None
    )
    report = mirror.sync("users", full=True)
    assert report.state is RunState.PARTIAL
    mirror.nango.before_graph = None
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, mirror.tenant)


def test_a_refused_resource_names_the_permission_and_the_others_go_on(
    make_mirror: MakeMirror,
) -> None:
    mirror = make_mirror(Tenant(seed=6, users=20, groups=2, sites=4))
    mirror.tenant.options.refused_resources = {"groups"}
    report = mirror.sync()
    assert report.state is RunState.PARTIAL
    assert "Group.Read.All" in (report.message or "")
    assert compute_mirror_truth(mirror.database)["users"].count == 20
    assert compute_mirror_truth(mirror.database)["groups"].count == 0
    mirror.tenant.options.refused_resources = set()
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, mirror.tenant)


def test_a_tenant_that_refuses_batches_is_read_call_by_call(make_mirror: MakeMirror) -> None:
    tenant = Tenant(seed=6, users=30, groups=4)
    tenant.options.batch_error_status = 404
    mirror = make_mirror(tenant)
    assert mirror.sync().state is RunState.SUCCEEDED
    tenant.delete_user(tenant.users.id_at(3), permanently=True)
    tenant.expire_delta_tokens()
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)


def test_assignments_are_read_definition_by_definition_where_graph_demands_it(
    make_mirror: MakeMirror,
) -> None:
    tenant = Tenant(seed=6, users=30, groups=2, role_definitions=47, role_assignments=30)
    tenant.options.requires_role_filter = True
    tenant.options.role_page_size = 7
    mirror = make_mirror(tenant)
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)
    role = tenant.create_role_definition(displayName="Auditor")
    tenant.assign_role(role, tenant.users.id_at(2))
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)


def test_sites_are_searched_for_where_the_complete_list_is_refused(make_mirror: MakeMirror) -> None:
    tenant = Tenant(seed=6, users=5, groups=1, sites=20)
    tenant.options.refuse_get_all_sites = True
    mirror = make_mirror(tenant)
    report = mirror.sync()
    assert report.state is RunState.SUCCEEDED
    assert "best effort" in report.resources["sites"]["problem"]
    before = compute_mirror_truth(mirror.database)["sites"].count
    assert before > 0
    searched = [s for s in tenant.iterate_live("sites") if not s.get("isPersonalSite")]
    tenant.delete_site(searched[0]["id"])
    mirror.sync()
    assert compute_mirror_truth(mirror.database)["sites"].count == before - 1


def test_another_tenant_behind_the_connection_is_never_read(mirror: Mirror) -> None:
    mark = read_last_seq(mirror.database)
    stranger = Tenant(seed=99, users=5, groups=1)
    mirror.nango.connections[0].tenant = stranger
    report = mirror.sync()
    assert report.state is RunState.FAILED
    assert "another Microsoft tenant" in (report.message or "")
    assert compute_mirror_truth(mirror.database)["users"].count == 60
    found = "select change from events.change_events where seq > :mark"
    assert fetch_scalar(mirror.database, found, mark=mark) == "broken"
    assert fetch_scalar(mirror.database, "select status from sync.connections") == "broken"
    mirror.nango.connections[0].tenant = mirror.tenant
    assert mirror.sync().state is RunState.SUCCEEDED
    assert fetch_scalar(mirror.database, "select status from sync.connections") == "active"
    assert_exact(mirror.database, mirror.tenant)


def test_a_second_connection_of_a_tenant_is_a_duplicate(mirror: Mirror) -> None:
    mirror.nango.add_connection("contoso-again", mirror.tenant)
    discover(mirror.runtime.database, mirror.runtime.nango, mirror.runtime.settings)
    mirror.connection_id = 2
    assert mirror.sync().state is RunState.FAILED
    found = "select status || ': ' || status_reason from sync.connections where id = 2"
    assert fetch_scalar(mirror.database, found).startswith("duplicate: connection 1 ")
    assert compute_mirror_truth(mirror.database, 2)["users"].count == 0


def test_a_revoked_connection_is_broken_and_recovers(mirror: Mirror) -> None:
    body = {"error": {"code": "server_error", "message": "Failed to get connection credentials"}}
    reply = Response(400, json.dumps(body).encode(), {"content-type": "application/json"})
    mirror.nango.before_response = lambda r: reply if "/proxy" in r.path else None
    report = mirror.sync()
    assert report.state is RunState.FAILED
    assert "reconnect" in (report.message or "")
    mirror.nango.before_response = None
    assert mirror.sync().state is RunState.SUCCEEDED
    told = "select string_agg(change, ',' order by seq) from events.change_events"
    found = fetch_scalar(mirror.database, f"{told} where resource = 'connection'")
    assert found == "added,broken,recovered"


def test_a_wrong_key_halts_with_what_to_check(mirror: Mirror) -> None:
    body = {"error": {"code": "unknown_account", "message": "no", "payload": {}}}
    reply = Response(401, json.dumps(body).encode(), {"content-type": "application/json"})
    mirror.nango.before_response = lambda _: reply
    with pytest.raises(ConfigurationError, match="NANGO_SECRET_KEY"):
        mirror.sync()
    assert fetch_scalar(mirror.database, "select state from sync.runs order by id desc") == "failed"


def test_a_web_page_where_nango_never_answered_halts(mirror: Mirror, nango_server: Server) -> None:
    mirror.nango.before_response = lambda _: WEB_PAGE
    stranger = NangoClient(
        nango_server.url,
        mirror.nango.key,
        throttle=GraphThrottle(),
        retry_policy=RetryPolicy(2, 0.1),
    )
    runtime = replace(mirror.runtime, nango=stranger)
    with pytest.raises(ConfigurationError, match="NANGO_HOST"):
        run_slice(
            runtime,
            1,
            trigger=RunTrigger.MANUAL,
            request=SyncRequest(datetime.now(UTC), manual=True),
        )
    with pytest.raises(ConfigurationError, match="NANGO_HOST"):
        discover(runtime.database, stranger, runtime.settings)
    stranger.close()


def test_a_web_page_in_between_only_costs_time(mirror: Mirror) -> None:
    mirror.tenant.mutate(3)
    mirror.nango.before_response = lambda _: WEB_PAGE
    assert mirror.sync().state is RunState.PARTIAL
    mirror.nango.before_response = None
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, mirror.tenant)


def test_one_passing_refusal_does_not_leave_the_sites_with_search(make_mirror: MakeMirror) -> None:
    mirror = make_mirror(Tenant(seed=8, users=5, groups=2, sites=6))
    mirror.tenant.options.refuse_get_all_sites = True
    mirror.sync("sites")
    assert fetch_scalar(
        mirror.database, "select mode from sync.streams where resource = 'sites'"
    ) == ("search")
    mirror.tenant.options.refuse_get_all_sites = False
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, mirror.tenant)
    assert fetch_scalar(
        mirror.database, "select mode from sync.streams where resource = 'sites'"
    ) == ("plain")
