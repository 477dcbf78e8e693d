"""Tenants without delta queries: users, groups and memberships are listed in full, by the hour."""

import json
from typing import Any

import pytest

from models.resources import RESOURCES
from models.run import RunState, RunTrigger
from sandbox.tenant import Request, Response, Tenant
from tests.support.mirror import (
    MakeMirror,
    Mirror,
    assert_exact,
    fetch_scalar,
    read_events,
    read_last_seq,
    read_row_versions,
)
from worker.core.errors import MalformedResponse
from worker.graph.memberships import add_members
from worker.graph.page import Page
from worker.sync.run import run_slice

pytestmark = pytest.mark.first_resources

MEMBERS = "groups/{id}/members"


def without_delta(**sizes: Any) -> Tenant:
    tenant = Tenant(seed=31, **{"users": 60, "groups": 50, "sites": 3, **sizes})
    tenant.options.no_delta = True
    return tenant


@pytest.fixture
def listed(make_mirror: MakeMirror) -> Mirror:
    """A small tenant without delta, mirrored."""
    mirror = make_mirror(without_delta())
    assert mirror.sync().state is RunState.SUCCEEDED
    mirror.nango.calls.reset()
    return mirror


def stream(mirror: Mirror, column: str, name: str = "groups") -> Any:
    return fetch_scalar(
        mirror.database, f"select {column} from sync.streams where resource = '{name}'"
    )


def test_a_tenant_without_delta_is_mirrored_exactly(make_mirror: MakeMirror) -> None:
    tenant = without_delta()
    mirror = make_mirror(tenant)
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)
    assert [stream(mirror, "mode", name) for name in ("users", "groups")] == ["list_only"] * 2
    assert all(event["initial"] for event in read_events(mirror.database))
    assert mirror.nango.calls.graph["groups/delta"] == 1
    assert mirror.nango.calls.graph[MEMBERS] == 50, "each group was read once"


def test_the_members_of_19_groups_cost_one_call(listed: Mirror) -> None:
    listed.take_call_count()
    listed.sync("groups")
    assert listed.take_call_count() == 1 + 1 + 3 + 3, (
        "delta asked for anew, the list, and 19 + 19 + 12 groups, for members and for owners"
    )


def test_a_listing_that_finds_nothing_new_writes_nothing(listed: Mirror) -> None:
    before = read_row_versions(listed.database)
    assert listed.sync().state is RunState.SUCCEEDED
    assert read_row_versions(listed.database) == before


def test_every_kind_of_change_is_found_by_the_next_listing(listed: Mirror) -> None:
    tenant = listed.tenant
    mark = read_last_seq(listed.database)
    tenant.mutate(60)
    tenant.delete_user(tenant.users.id_at(4))
    tenant.delete_group(tenant.groups.id_at(9))
    tenant.update_group(tenant.groups.id_at(10), displayName="Renamed")
    assert listed.sync().state is RunState.SUCCEEDED
    assert_exact(listed.database, tenant)
    found = {(e["resource"], e["change"]) for e in read_events(listed.database, after=mark)}
    assert {("users", "deleted"), ("groups", "deleted"), ("groups", "updated")} <= found
    assert {("group_members", "created"), ("group_members", "deleted")} <= found
    assert not any(e["initial"] for e in read_events(listed.database, after=mark))


def test_what_comes_back_comes_back_with_its_memberships(listed: Mirror) -> None:
    tenant = listed.tenant
    user, group = tenant.users.id_at(3), tenant.groups.id_at(8)
    tenant.delete_user(user)
    tenant.delete_group(group)
    listed.sync()
    tenant.restore_user(user)
    tenant.restore_group(group)
    assert listed.sync().state is RunState.SUCCEEDED
    assert_exact(listed.database, tenant)


def test_a_walk_goes_on_over_slices_and_within_a_large_group(make_mirror: MakeMirror) -> None:
    tenant = without_delta(users=3000, groups=45, big_groups=2, big_group_members=2500)
    mirror = make_mirror(tenant)
    number = 0
    while True:
        number += 1
        report = run_slice(mirror.runtime, 1, trigger=RunTrigger.BACKFILL, seconds=0.0)
        if report.state is not RunState.RUNNING:
            break
    assert report.state is RunState.SUCCEEDED
    assert number > 5
    assert_exact(mirror.database, tenant)
    assert mirror.nango.calls.graph[MEMBERS] == 45 + 2 + 2, "no page was read twice"


def test_a_walk_that_dies_between_its_pages_loses_nothing(make_mirror: MakeMirror) -> None:
    tenant = without_delta(groups=70)
    mirror = make_mirror(tenant)
    died = 0

    class Died(BaseException):  # not an Exception: no code may handle the end of its process
        pass

    def die(resource: str, objects: int, what: str) -> None:
        nonlocal died
        died += 1
        raise Died

    for _ in range(30):
        try:
            run_slice(mirror.runtime, 1, trigger=RunTrigger.BACKFILL, on_progress=die)
            break
        except Died:
            pass
    assert died > 4
    assert_exact(mirror.database, tenant)


def test_a_group_that_goes_during_the_walk_is_deleted_with_its_members(listed: Mirror) -> None:
    tenant, gone = listed.tenant, listed.tenant.groups.id_at(7)
    mark = read_last_seq(listed.database)

    def delete_meanwhile(request: Request) -> None:
        if request.path.endswith(f"/groups/{gone}/members"):
            listed.nango.before_graph = None
            tenant.delete_group(gone)

    listed.nango.before_graph = delete_meanwhile
    assert listed.sync("groups").state is RunState.SUCCEEDED
    assert_exact(listed.database, tenant)
    told = [e for e in read_events(listed.database, after=mark) if e["resource"] == "groups"]
    assert [(e["object_id"], e["change"]) for e in told] == [(gone, "deleted")]


def test_a_group_that_only_seems_to_be_gone_is_not_deleted(listed: Mirror) -> None:
    """Its members answer 404 and it answers 200: the walk is torn and begun again."""
    shy = listed.tenant.groups.id_at(7)
    mark, lies = read_last_seq(listed.database), 0

    def lie(request: Request) -> Response | None:
        nonlocal lies
        if lies or not request.path.endswith(f"/groups/{shy}/members"):
            return None
        lies += 1
        body = b'{"error": {"code": "Request_ResourceNotFound", "message": ""}}'
        return Response(404, body, {"content-type": "application/json", "request-id": "x"})

    listed.nango.before_graph = lie
    assert listed.sync("groups").state is RunState.SUCCEEDED
    assert lies == 1
    assert read_events(listed.database, after=mark) == []
    assert fetch_scalar(listed.database, "select count(*) from sync.removals") == 0


def test_members_that_are_refused_name_the_permission(make_mirror: MakeMirror) -> None:
    tenant = without_delta()
    tenant.options.refused_resources.add("group_members")
    mirror = make_mirror(tenant)
    assert mirror.sync().state is RunState.PARTIAL
    assert stream(mirror, "phase") == "refused"
    assert "GroupMember.Read.All" in stream(mirror, "reason")
    assert stream(mirror, "phase", "users") == "ready"
    tenant.options.refused_resources.clear()
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)


def test_member_pages_that_go_in_circles_end(listed: Mirror) -> None:
    tenant = listed.tenant
    tenant.options.loop, tenant.options.loop_start_page = "cycle", 0
    tenant.options.loop_paths = {MEMBERS}
    mark = read_last_seq(listed.database)
    report = listed.sync("groups")
    assert report.state is RunState.PARTIAL
    assert "a cycle" in (report.message or "")
    assert read_events(listed.database, after=mark) == []
    tenant.options.loop = ""
    assert listed.sync().state is RunState.SUCCEEDED
    assert_exact(listed.database, tenant)


def test_a_listing_has_its_own_clock(listed: Mirror) -> None:
    for name in ("users", "groups"):
        wait = "extract(epoch from due_at - now()) between 3000 and 3900"
        assert stream(listed, wait, name) is True


def test_a_tenant_that_is_given_delta_goes_over_to_it(listed: Mirror) -> None:
    tenant, mark = listed.tenant, read_last_seq(listed.database)
    tenant.options.no_delta = False
    assert listed.sync().state is RunState.SUCCEEDED
    assert [stream(listed, "mode", name) for name in ("users", "groups")] == ["plain"] * 2
    assert [stream(listed, "phase", name) for name in ("users", "groups")] == ["delta"] * 2
    assert stream(listed, "drift") is None
    assert read_events(listed.database, after=mark) == []
    tenant.mutate(30)
    listed.sync()
    assert_exact(listed.database, tenant)


def test_a_tenant_that_loses_delta_goes_over_to_lists(mirror: Mirror) -> None:
    tenant, mark = mirror.tenant, read_last_seq(mirror.database)
    tenant.options.no_delta = True
    assert mirror.sync().state is RunState.SUCCEEDED
    assert [stream(mirror, "mode", name) for name in ("users", "groups")] == ["list_only"] * 2
    assert read_events(mirror.database, after=mark) == []
    assert_exact(mirror.database, tenant)


def test_a_member_that_is_not_understood_is_a_reject_of_its_group() -> None:
    group = "11111111-2222-3333-4444-555555555555"
    member = {"@odata.type": "#microsoft.graph.user", "id": "AAAAAAAA-2222-3333-4444-555555555555"}
    link = "https://graph.microsoft.com/v1.0/groups/x/members?$skiptoken=y"
    page = Page()
    body = {"value": [member, {"id": 7}, {"id": "no guid"}], "@odata.nextLink": link}
    assert add_members(page, RESOURCES["group_members"], group, json.dumps(body).encode()) == link
    assert page.get_edges("group_members").found == {(group, str(member["id"]).lower()): "user"}
    assert [reject.key for reject in page.rejects] == [group, group]
    with pytest.raises(MalformedResponse):
        add_members(page, RESOURCES["group_members"], group, b"<html>")


def test_a_tenant_that_loses_delta_in_the_middle_of_a_walk_goes_over_to_lists(
    make_mirror: MakeMirror,
) -> None:
    mirror = make_mirror(Tenant(seed=35, users=12, groups=30))
    mirror.tenant.options.delta_page_size = 4
    run_slice(mirror.runtime, 1, trigger=RunTrigger.BACKFILL, seconds=0.0)
    mirror.tenant.options.no_delta = True
    assert mirror.sync().state is RunState.SUCCEEDED
    assert stream(mirror, "mode") == "list_only"
    assert_exact(mirror.database, mirror.tenant)
