"""One part of many that Graph refuses is set apart; all the others are mirrored."""

import json
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import unquote_plus

import pytest
from sqlalchemy import text

from models.run import RunState, RunTrigger
from models.unresolved import NoAnswer, Part, PartKind
from sandbox.tenant import Request, Response, Tenant
from sandbox.tenant.graph.service import GraphService
from tests.support.leases import take_lease
from tests.support.mirror import (
    MakeMirror,
    Mirror,
    assert_exact,
    fetch_scalar,
    read_events,
    read_last_seq,
    verify_connection,
)
from worker.store.lease import open_write_transaction
from worker.store.state.unresolved import note_unresolved
from worker.sync.run import run_slice

pytestmark = pytest.mark.first_resources

HEADERS = {"content-type": "application/json", "request-id": "simulated"}
MEMBERS = "groups/{id}/members"


def answer(status: int) -> Response:
    body = {"error": {"code": "simulated", "message": ""}}
    return Response(status, json.dumps(body).encode(), HEADERS)


def refuse(mirror: Mirror, reply: Response, *parts: str) -> None:
    """From now on every request whose path or query names one of the parts gets the reply."""

    def refused(request: Request) -> Response | None:
        named = unquote_plus(f"{request.path}?{request.query}")
        return reply if any(part in named for part in parts) else None

    mirror.nango.before_graph = refused


def live(mirror: Mirror, group: str) -> set[str]:
    found = "select array_agg(member_id) from directory.group_members"
    where = "where group_id = :group and deleted_at is null"
    return {
        str(one) for one in fetch_scalar(mirror.database, f"{found} {where}", group=group) or []
    }


def members(tenant: Tenant, group: str) -> set[str]:
    return {member.id for member in tenant.members_of(group)}


def noted(mirror: Mirror) -> list[str]:
    found = "select array_agg(kind || ' ' || key order by key) from sync.unresolved"
    return fetch_scalar(mirror.database, found) or []


def stream(mirror: Mirror, column: str, name: str = "groups") -> object:
    return fetch_scalar(
        mirror.database, f"select {column} from sync.streams where resource = '{name}'"
    )


def tick(mirror: Mirror) -> RunState:
    """A run by the clock, with every stream and every part due."""
    with mirror.database.open_transaction() as db:
        db.exec_driver_sql("update sync.streams set due_at = null")
        db.exec_driver_sql("update sync.unresolved set retry_at = now()")
    return run_slice(mirror.runtime, 1, trigger=RunTrigger.SCHEDULED).state


def some_groups(tenant: Tenant) -> list[str]:
    return [
        row["id"] for row in tenant.iterate_live("groups") if len(tenant.members_of(row["id"])) > 2
    ]


Make = Callable[..., Mirror]


@pytest.fixture
def listed(make_mirror: MakeMirror) -> Make:
    """A tenant without delta, enrolled; nothing is synced yet."""

    def make(groups: int = 30) -> Mirror:
        tenant = Tenant(seed=73, users=60, groups=groups, sites=2)
        tenant.options.no_delta = True
        return make_mirror(tenant)

    return make


# ---- members of one group


ODD = [
    *(answer(status) for status in (400, 403, 423, 500, 503)),
    Response(200, b'{"no": "value"}', HEADERS),
    Response(200, b"<html>", HEADERS),
]


@pytest.mark.parametrize("reply", ODD, ids=lambda reply: f"{reply.status}-{len(reply.body)}")
def test_a_first_load_ends_without_the_members_that_are_refused(
    listed: Make, reply: Response
) -> None:
    mirror = listed()
    tenant = mirror.tenant
    first, *_, last = some_groups(tenant)
    refuse(mirror, reply, f"{first}/members", f"{last}/members")
    report = mirror.sync()
    assert report.state is RunState.PARTIAL
    assert noted(mirror) == [f"members {group}" for group in sorted((first, last))]
    for group in (first, last):
        assert f"members of group {group}: " in (report.message or "")
    assert stream(mirror, "phase") == "ready"
    assert stream(mirror, "first_complete_at is not null") is True
    for row in tenant.iterate_live("groups"):
        expected = set() if row["id"] in (first, last) else members(tenant, row["id"])
        assert live(mirror, row["id"]) == expected
    mirror.nango.before_graph = None
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)


def test_a_refused_group_keeps_its_members_while_others_change(listed: Make) -> None:
    mirror = listed()
    mirror.sync()
    tenant = mirror.tenant
    silent, other = some_groups(tenant)[:2]
    before = live(mirror, silent)
    for group in (silent, other):
        tenant.remove_member(group, tenant.members_of(group)[0].id)
    refuse(mirror, answer(403), f"{silent}/members")
    for _ in range(2):
        assert tick(mirror) is RunState.PARTIAL
        assert live(mirror, silent) == before
        assert live(mirror, other) == members(tenant, other)
    mirror.nango.before_graph = None
    assert tick(mirror) is RunState.SUCCEEDED
    assert noted(mirror) == []
    assert_exact(mirror.database, tenant)


def test_members_that_are_refused_on_a_later_page_stay(listed: Make) -> None:
    mirror = listed()
    tenant = mirror.tenant
    mirror.sync()
    silent = some_groups(tenant)[0]
    before = live(mirror, silent)
    tenant.options.member_page_size = tenant.options.max_page_size = 2
    mirror.nango.before_graph = lambda asked: (
        answer(500) if f"{silent}/members" in asked.path and "token" in asked.query else None
    )
    assert mirror.sync().state is RunState.PARTIAL
    assert live(mirror, silent) == before
    mirror.nango.before_graph = None
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)


def test_a_list_that_goes_in_circles_costs_only_its_group(listed: Make) -> None:
    mirror = listed()
    tenant = mirror.tenant
    silent = some_groups(tenant)[0]
    link = f"https://graph.microsoft.com/v1.0/groups/{silent}/members?$skiptoken=x"
    body = json.dumps({"value": [], "@odata.nextLink": link}).encode()
    refuse(mirror, Response(200, body, HEADERS), f"{silent}/members")
    report = mirror.sync()
    assert report.state is RunState.PARTIAL
    assert "a cycle" in (report.message or "")
    mirror.nango.before_graph = None
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)


@pytest.mark.parametrize("status", [404, 410])
def test_a_group_that_is_gone_is_not_set_apart(listed: Make, status: int) -> None:
    mirror = listed()
    mirror.sync()
    gone = some_groups(mirror.tenant)[0]
    refuse(mirror, answer(status), f"{gone}/members", f"groups/{gone}")
    assert mirror.sync("groups").state is RunState.SUCCEEDED
    assert fetch_scalar(
        mirror.database, f"select deleted_at from directory.groups where id = '{gone}'"
    )
    assert live(mirror, gone) == set()


@pytest.mark.parametrize("groups", [8, 30])
def test_members_that_are_refused_of_all_groups_refuse_the_stream(
    listed: Make, groups: int
) -> None:
    mirror = listed(groups)
    refuse(mirror, answer(403), "/members")
    assert mirror.sync("groups").state is RunState.PARTIAL
    assert stream(mirror, "phase") == "refused"
    assert "GroupMember.Read.All" in str(stream(mirror, "reason"))
    assert noted(mirror) == []


# ---- assignments of one role definition


@pytest.mark.parametrize("reply", ODD, ids=lambda reply: f"{reply.status}-{len(reply.body)}")
def test_assignments_of_one_role_that_are_refused_stay_as_they_are(
    make_mirror: MakeMirror, reply: Response
) -> None:
    tenant = Tenant(seed=74, users=60, groups=4, sites=2)
    tenant.options.requires_role_filter = True
    mirror = make_mirror(tenant)
    mirror.sync()
    held = [row["roleDefinitionId"] for row in tenant.iterate_live("role_assignments")]
    silent, other = sorted(set(held))[:2]
    before = [row["id"] for row in tenant.iterate_live("role_assignments")]
    of_silent = [
        row["id"]
        for row in tenant.iterate_live("role_assignments")
        if row["roleDefinitionId"] == silent
    ]
    for row in list(tenant.iterate_live("role_assignments")):
        if row["roleDefinitionId"] in (silent, other):
            tenant.unassign_role(row["id"])
    mark = read_last_seq(mirror.database)
    refuse(mirror, reply, silent)
    report = mirror.sync("role_assignments")
    assert report.state is RunState.PARTIAL
    assert f"assignments of role definition {silent}: " in (report.message or "")
    told = {e["object_id"]: e["change"] for e in read_events(mirror.database, after=mark)}
    assert told
    assert set(told.values()) == {"deleted"}
    assert told.keys() & set(of_silent) == set()
    assert told.keys() < set(before)
    mirror.nango.before_graph = None
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)


def test_roles_that_may_be_listed_again_are_no_longer_set_apart(make_mirror: MakeMirror) -> None:
    tenant = Tenant(seed=74, users=60, groups=4, sites=2)
    tenant.options.requires_role_filter = True
    mirror = make_mirror(tenant)
    silent = next(row["roleDefinitionId"] for row in tenant.iterate_live("role_assignments"))
    refuse(mirror, answer(403), f"'{silent}'")
    assert mirror.sync().state is RunState.PARTIAL
    assert noted(mirror) == [f"assignments {silent}"]
    tenant.options.requires_role_filter = False
    assert mirror.sync("role_assignments").state is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)


# ---- users who come back


@pytest.mark.parametrize("status", [400, 403, 423, 500])
def test_a_restored_user_whose_groups_are_refused_gets_them_from_the_groups(
    mirror: Mirror, status: int
) -> None:
    tenant = mirror.tenant
    tenant.options.readd_on_restore = False
    inside = {m.id for row in tenant.iterate_live("groups") for m in tenant.members_of(row["id"])}
    silent, other = [one for one in sorted(inside) if tenant.users.index_of(one) is not None][:2]
    for user in (silent, other):
        tenant.delete_user(user)
    mirror.sync()
    for user in (silent, other):
        tenant.restore_user(user)
    refuse(mirror, answer(status), f"{silent}/memberOf")
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)


def test_a_group_that_is_refused_too_keeps_only_its_own_memberships_open(
    mirror: Mirror,
) -> None:
    tenant = mirror.tenant
    tenant.options.readd_on_restore = False
    group = some_groups(tenant)[0]
    users = [m.id for m in tenant.members_of(group) if tenant.users.index_of(m.id) is not None]
    for user in users:
        tenant.delete_user(user)
    mirror.sync()
    for user in users:
        tenant.restore_user(user)
    refuse(mirror, answer(403), "memberOf", f"{group}/members")
    assert mirror.sync().state is RunState.PARTIAL
    assert noted(mirror) == [f"members {group}"]
    assert live(mirror, group) & set(users) == set()
    assert verify_connection(mirror.database).problems == []
    mirror.nango.before_graph = None
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)


def test_a_member_that_cannot_be_looked_up_does_not_keep_others_from_it(mirror: Mirror) -> None:
    """Two members that are not mirrored: one is gone, of the other Graph does not say."""
    tenant = mirror.tenant
    group = some_groups(tenant)[0]
    silent = tenant.create_user(displayName="Silent")
    gone = tenant.create_user(displayName="Gone")
    for user in (silent, gone):
        tenant.add_member(group, user)

    def lose(request: Request) -> Response | None:
        if request.path.endswith(f"users/{silent}"):
            return answer(403)
        if request.path.endswith(f"users/{gone}"):
            return answer(404)
        if not request.path.endswith("users/delta"):
            return None
        response = GraphService().handle(tenant, request)
        document = json.loads(response.body)
        rows = [row for row in document["value"] if row["id"] not in (silent, gone)]
        return replace(response, body=json.dumps({**document, "value": rows}).encode())

    mirror.nango.before_graph = lose
    assert mirror.sync().state is RunState.PARTIAL
    assert noted(mirror) == [f"object {silent}"]
    assert silent in live(mirror, group)
    assert gone not in live(mirror, group)


def test_parts_are_noted_together_whether_their_pauses_are_whole_seconds_or_not(
    mirror: Mirror,
) -> None:
    lease = take_lease(mirror.database, 1, 600)
    pauses = {"a": 0, "b": 1.5, "c": 7200}
    parts = {
        Part("users", PartKind.OBJECT, key): NoAnswer("503", pause) for key, pause in pauses.items()
    }
    with open_write_transaction(mirror.database, lease) as tx:
        note_unresolved(tx, parts)
    with mirror.database.open_transaction() as db:
        waits = db.execute(
            text("select key, extract(epoch from retry_at - last_seen_at) from sync.unresolved")
        )
        assert {key: float(wait) >= pauses[key] for key, wait in waits} == dict.fromkeys(
            "abc", True
        )
