"""What is kept apart as malformed is released only once all that it may have told is known."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from models.run import RunState, RunTrigger
from sandbox.tenant import Request, Response, Tenant
from sandbox.tenant.graph.service import GraphService
from tests.support.mirror import (
    MakeMirror,
    Mirror,
    assert_exact,
    fetch_scalar,
    read_events,
    read_last_seq,
)
from worker.store.state.quarantine import MAX_QUARANTINED
from worker.sync.run import run_slice

pytestmark = pytest.mark.first_resources

DELTA, HIDDEN = "groups/delta", "HiddenMembership"
BAD = {"id": 4_000_002}
"""What stands in the place of a member that cannot be understood."""


class Spoilt:
    """Graph as it is, but that one member of some groups cannot be understood."""

    def __init__(self, mirror: Mirror, members: dict[str, str], *paths: str) -> None:
        self.mirror, self.members = mirror, members
        self.paths = paths or (DELTA,)
        self.spoilt = 0
        mirror.nango.before_graph = self

    def __call__(self, request: Request) -> Response | None:
        if not request.path.endswith(self.paths):
            return None
        response = GraphService().handle(self.mirror.tenant, request)
        document = json.loads(response.body)
        for group, entries in self._entries(request.path, document):
            for index, entry in enumerate(entries):
                if entry["id"] == self.members.get(group):
                    entries[index] = BAD
                    self.spoilt += 1
        return replace(response, body=json.dumps(document).encode())

    def _entries(
        self, path: str, document: dict[str, Any]
    ) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        rows = document.get("value", [])
        if path.endswith("/members"):
            yield path.split("/")[-2], rows
        else:
            for row in rows:
                yield row["id"], row.get("members@delta", [])


def misname(mirror: Mirror, bad: str, *paths: str) -> None:
    """Graph does not say in words that can be understood what became of one object."""

    def misnamed(request: Request) -> Response | None:
        if not request.path.endswith(paths):
            return None
        response = GraphService().handle(mirror.tenant, request)
        document = json.loads(response.body)
        for row in document.get("value", [document]):
            if row["id"] == bad:
                row["@removed"] = 4_000_002
        return replace(response, body=json.dumps(document).encode())

    mirror.nango.before_graph = misnamed


def tick(mirror: Mirror) -> RunState:
    """A run by the clock, with everything due: it waits until quarantined objects are due."""
    with mirror.database.open_transaction() as db:
        db.exec_driver_sql("update sync.streams set due_at = null")
    return run_slice(mirror.runtime, 1, trigger=RunTrigger.SCHEDULED).state


def an_hour_passes(mirror: Mirror) -> None:
    with mirror.database.open_transaction() as db:
        db.exec_driver_sql("update sync.quarantine set retry_at = now()")


def quarantined(mirror: Mirror) -> list[str]:
    found = fetch_scalar(mirror.database, "select array_agg(key order by key) from sync.quarantine")
    return found or []


def pause(mirror: Mirror) -> float:
    """Hours until the one quarantined object is read again."""
    wait = "select extract(epoch from retry_at - now()) / 3600 from sync.quarantine"
    return round(float(fetch_scalar(mirror.database, wait)), 1)


def live(mirror: Mirror, group: str) -> set[str]:
    found = "select array_agg(member_id) from directory.group_members"
    where = "where group_id = :group and deleted_at is null"
    return {
        str(one) for one in fetch_scalar(mirror.database, f"{found} {where}", group=group) or []
    }


def a_group(tenant: Tenant, least: int = 3) -> str:
    """A group that hides nothing, with some members."""
    groups = (row for row in tenant.iterate_live("groups") if row.get("visibility") != HIDDEN)
    return str(next(row["id"] for row in groups if len(tenant.members_of(row["id"])) >= least))


def an_arrival(tenant: Tenant) -> tuple[str, str]:
    """A group, and a user who has just joined it."""
    group = a_group(tenant)
    came = strangers(tenant, group, 1)[0]
    tenant.add_member(group, came)
    return group, came


def strangers(tenant: Tenant, group: str, number: int) -> list[str]:
    """Users who are not in the group."""
    inside = {member.id for member in tenant.members_of(group)}
    found = (tenant.users.id_at(index) for index in range(tenant.users.total))
    return [user for user in found if user not in inside][:number]


# ---- delta


def test_a_first_load_with_a_malformed_member_ends_exact(make_mirror: MakeMirror) -> None:
    tenant = Tenant(seed=61, users=60, groups=8, sites=2)
    mirror = make_mirror(tenant)
    group = a_group(tenant)
    spoilt = Spoilt(mirror, {group: tenant.members_of(group)[0].id})
    assert tick(mirror) is RunState.PARTIAL
    assert spoilt.spoilt == 1
    assert (quarantined(mirror), live(mirror, group)) == ([group], set())
    assert tick(mirror) is RunState.PARTIAL, "it is not yet due"
    assert quarantined(mirror) == [group]
    an_hour_passes(mirror)
    assert tick(mirror) is RunState.SUCCEEDED
    assert quarantined(mirror) == []
    assert_exact(mirror.database, tenant)


def test_members_who_came_and_went_on_a_malformed_page_are_found(mirror: Mirror) -> None:
    tenant = mirror.tenant
    group = a_group(tenant)
    before = [member.id for member in tenant.members_of(group)]
    came = strangers(tenant, group, 3)
    mark = read_last_seq(mirror.database)
    for user in came:
        tenant.add_member(group, user)
    for user in before[:2]:
        tenant.remove_member(group, user)
    Spoilt(mirror, {group: came[0]})
    assert tick(mirror) is RunState.PARTIAL
    assert live(mirror, group) == set(before)
    an_hour_passes(mirror)
    assert tick(mirror) is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)
    told = {(e["object_id"], e["change"]) for e in read_events(mirror.database, after=mark)}
    created = {(f"{group}/{user}", "created") for user in came}
    assert told == created | {(f"{group}/{user}", "deleted") for user in before[:2]}
    why = "select distinct deleted_reason from directory.group_members where deleted_at is not null"
    assert fetch_scalar(mirror.database, why) == "not_seen"


def test_a_sync_by_hand_reads_the_members_at_once(mirror: Mirror) -> None:
    tenant = mirror.tenant
    group = a_group(tenant)
    came, left = strangers(tenant, group, 1)[0], tenant.members_of(group)[0].id
    tenant.add_member(group, came)
    tenant.remove_member(group, left)
    Spoilt(mirror, {group: left})
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)


def test_a_later_page_does_not_release_a_group(mirror: Mirror) -> None:
    """It tells what changed since, not what was lost; but it is a reason to read it at once."""
    tenant = mirror.tenant
    group, came = an_arrival(tenant)
    Spoilt(mirror, {group: came})
    assert tick(mirror) is RunState.PARTIAL
    tenant.update_group(group, displayName="Renamed")
    mirror.nango.calls.reset()
    assert tick(mirror) is RunState.SUCCEEDED
    assert mirror.nango.calls.graph["groups/{id}/members"] == 1
    assert_exact(mirror.database, tenant)


@pytest.mark.parametrize("again", [False, True])
def test_a_group_on_several_pages_is_not_released_by_the_next(
    make_mirror: MakeMirror, again: bool
) -> None:
    """One slice of its members is malformed, the others are not: first load and weekly walk."""
    tenant = Tenant(seed=62, users=120, groups=4, sites=2, big_groups=1, big_group_members=60)
    tenant.options.members_per_entry, tenant.options.delta_page_size = 10, 1
    tenant.options.member_page_size = 7
    mirror = make_mirror(tenant)
    group = a_group(tenant, least=50)
    if again:
        mirror.sync()
    members = [member.id for member in tenant.members_of(group)]
    mark = read_last_seq(mirror.database)
    Spoilt(mirror, {group: members[12]})
    assert mirror.sync(full=True).state is RunState.SUCCEEDED
    if again:
        assert read_events(mirror.database, after=mark) == []
    assert_exact(mirror.database, tenant)


def test_a_members_list_that_is_malformed_itself_keeps_the_group_apart(mirror: Mirror) -> None:
    tenant = mirror.tenant
    group = a_group(tenant)
    came, left = strangers(tenant, group, 2), tenant.members_of(group)[0].id
    for user in came:
        tenant.add_member(group, user)
    tenant.remove_member(group, left)
    Spoilt(mirror, {group: came[0]}, DELTA, f"{group}/members")
    assert tick(mirror) is RunState.PARTIAL
    waits = [pause(mirror)]
    for _ in range(3):
        an_hour_passes(mirror)
        assert tick(mirror) is RunState.PARTIAL
        waits.append(pause(mirror))
    assert waits == [1, 2, 4, 8]
    assert quarantined(mirror) == [group]
    reason = fetch_scalar(mirror.database, "select reason from sync.quarantine")
    assert reason.startswith("a member: ")
    assert "4000002" not in reason
    assert {came[1], left} <= live(mirror, group), "what is understood comes, nothing goes"
    tenant.update_group(group, displayName="Renamed")
    mirror.nango.calls.reset()
    assert tick(mirror) is RunState.PARTIAL
    assert mirror.nango.calls.graph["groups/{id}/members"] == 0, "a page does not end the pause"
    mirror.nango.before_graph = None
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)


GRAPH = {"content-type": "application/json", "request-id": "simulated"}
LOOP = {"value": [], "@odata.nextLink": "https://graph.microsoft.com/v1.0/groups/x/members?$s=1"}
ABROAD = {"value": [], "@odata.nextLink": "https://graph.example.com/v1.0/groups/x/members"}


def said(status: int, body: object) -> Response:
    return Response(status, json.dumps(body).encode(), GRAPH)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (said(200, {"no": "value"}), "no 'value' list"),
        (said(200, LOOP), "a cycle"),
        (said(200, ABROAD), "another host"),
        (said(404, {"error": {"code": "Request_ResourceNotFound"}}), "404"),
        (said(403, {"error": {"code": "Authorization_RequestDenied"}}), "GroupMember.Read.All"),
    ],
)
def test_a_members_list_that_is_none_keeps_the_group_apart(
    mirror: Mirror, answer: Response, reason: str
) -> None:
    tenant = mirror.tenant
    group = a_group(tenant)
    before, came = live(mirror, group), strangers(tenant, group, 1)[0]
    tenant.add_member(group, came)
    spoilt = Spoilt(mirror, {group: came})
    mirror.nango.before_graph = lambda asked: answer if "/members" in asked.path else spoilt(asked)
    assert mirror.sync().state is RunState.PARTIAL
    assert quarantined(mirror) == [group]
    assert reason in fetch_scalar(mirror.database, "select reason from sync.quarantine")
    assert live(mirror, group) == before
    mirror.nango.before_graph = None
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)


def test_members_that_cannot_be_read_now_are_read_by_the_next_run(mirror: Mirror) -> None:
    tenant = mirror.tenant
    group, came = an_arrival(tenant)
    spoilt = Spoilt(mirror, {group: came})
    mirror.nango.before_graph = lambda asked: (
        said(503, {}) if "/members" in asked.path else spoilt(asked)
    )
    report = mirror.sync()
    assert report.state is RunState.PARTIAL
    assert "503" in (report.message or "")
    mirror.nango.before_graph = None
    an_hour_passes(mirror)
    assert tick(mirror) is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)


def test_a_group_is_not_read_while_its_walk_is_under_way(make_mirror: MakeMirror) -> None:
    """What it brought would look as if the walk had missed it."""
    tenant = Tenant(seed=69, users=60, groups=8, sites=2)
    tenant.options.delta_page_size, tenant.options.batch_error_status = 4, 404
    mirror = make_mirror(tenant)
    mirror.sync()
    first = [tenant.groups.id_at(index) for index in range(4)]
    group = next(one for one in first if tenant.members_of(one))
    spoilt = Spoilt(mirror, {group: tenant.members_of(group)[0].id})
    mirror.nango.before_graph = lambda asked: (
        said(503, {}) if spoilt.spoilt and asked.path.endswith(DELTA) else spoilt(asked)
    )
    mirror.nango.calls.reset()
    assert mirror.sync("groups", full=True).state is RunState.PARTIAL
    assert quarantined(mirror) == [group]
    assert mirror.nango.calls.graph["groups/{id}/members"] == 0
    mark = read_last_seq(mirror.database)
    mirror.nango.before_graph = None
    assert mirror.sync().state is RunState.SUCCEEDED
    assert read_events(mirror.database, after=mark) == []
    assert_exact(mirror.database, tenant)


def test_one_list_that_is_short_by_mistake_ends_no_membership(mirror: Mirror) -> None:
    tenant = mirror.tenant
    group, came = an_arrival(tenant)
    spoilt, lies = Spoilt(mirror, {group: came}), [said(200, {"value": []})]
    mirror.nango.before_graph = lambda asked: (
        lies.pop() if lies and "/members" in asked.path else spoilt(asked)
    )
    mark = read_last_seq(mirror.database)
    assert mirror.sync().state is RunState.SUCCEEDED
    assert lies == []
    told = [(e["object_id"], e["change"]) for e in read_events(mirror.database, after=mark)]
    assert told == [(f"{group}/{came}", "created")]
    assert_exact(mirror.database, tenant)


def test_a_group_that_is_gone_when_it_is_read_again_is_released(mirror: Mirror) -> None:
    tenant = mirror.tenant
    group, came = an_arrival(tenant)
    Spoilt(mirror, {group: came})
    assert tick(mirror) is RunState.PARTIAL
    tenant.delete_group(group)
    an_hour_passes(mirror)
    assert tick(mirror) is RunState.SUCCEEDED
    assert quarantined(mirror) == []
    assert_exact(mirror.database, tenant)


def test_a_group_that_is_malformed_itself_brings_its_members_when_it_is_mended(
    make_mirror: MakeMirror,
) -> None:
    tenant = Tenant(seed=63, users=60, groups=8, sites=2)
    mirror = make_mirror(tenant)
    group = a_group(tenant)

    misname(mirror, group, DELTA, f"groups/{group}")
    assert mirror.sync().state is RunState.PARTIAL
    assert (quarantined(mirror), live(mirror, group)) == ([group], set())
    mirror.nango.before_graph = None
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)


def test_a_large_group_is_read_page_by_page(make_mirror: MakeMirror) -> None:
    tenant = Tenant(seed=67, users=3500, groups=3, sites=2, big_groups=1, big_group_members=3000)
    mirror = make_mirror(tenant)
    group = a_group(tenant, least=2000)
    members = [member.id for member in tenant.members_of(group)]
    Spoilt(mirror, {group: members[700]})
    assert mirror.sync().state is RunState.SUCCEEDED
    assert mirror.nango.calls.graph["groups/{id}/members"] == 4
    assert_exact(mirror.database, tenant)


# ---- what is not believable


def test_a_group_that_lost_implausibly_many_is_held(make_mirror: MakeMirror) -> None:
    tenant = Tenant(seed=65, users=400, groups=3, sites=2, big_groups=1, big_group_members=300)
    mirror = make_mirror(tenant)
    mirror.sync()
    group = a_group(tenant, least=200)
    members = [member.id for member in tenant.members_of(group)]
    for user in members[:200]:
        tenant.remove_member(group, user)
    Spoilt(mirror, {group: members[0]})
    report = mirror.sync()
    assert report.state is RunState.HELD
    assert "200 of " in report.resources["groups"]["problem"]
    assert live(mirror, group) == set(members)
    assert quarantined(mirror) == []


@pytest.mark.parametrize("hidden", [False, True])
def test_a_hidden_group_that_shows_no_member_any_more_is_held(mirror: Mirror, hidden: bool) -> None:
    tenant = mirror.tenant
    group = tenant.create_group(displayName="Quiet", visibility=HIDDEN)
    members = strangers(tenant, group, 4)
    for user in members[:3]:
        tenant.add_member(group, user)
    mirror.sync()
    tenant.add_member(group, members[3])
    Spoilt(mirror, {group: members[3]})
    assert tick(mirror) is RunState.PARTIAL
    tenant.options.hide_hidden_members = hidden
    report = mirror.sync()
    assert report.state is (RunState.HELD if hidden else RunState.SUCCEEDED)
    assert live(mirror, group) == set(members[:3] if hidden else members)
    assert quarantined(mirror) == []
    if hidden:
        assert "Member.Read.Hidden" in report.resources["groups"]["problem"]
        tenant.options.hide_hidden_members = False
        assert mirror.sync("groups", full=True).state is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)


# ---- without delta


def without_delta(mirror_of: MakeMirror) -> tuple[Mirror, Tenant, str]:
    tenant = Tenant(seed=66, users=60, groups=30, sites=2)
    tenant.options.no_delta = True
    return mirror_of(tenant), tenant, a_group(tenant)


def test_a_first_listing_with_a_malformed_member_ends_exact(make_mirror: MakeMirror) -> None:
    mirror, tenant, group = without_delta(make_mirror)
    bad = tenant.members_of(group)[0].id
    Spoilt(mirror, {group: bad}, f"{group}/members")
    assert tick(mirror) is RunState.PARTIAL
    assert quarantined(mirror) == [group]
    assert live(mirror, group) == {m.id for m in tenant.members_of(group)} - {bad}
    an_hour_passes(mirror)
    assert tick(mirror) is RunState.PARTIAL, "it is malformed still"
    mirror.nango.before_graph = None
    an_hour_passes(mirror)
    assert tick(mirror) is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)


def test_members_who_went_on_a_malformed_listing_are_found(make_mirror: MakeMirror) -> None:
    mirror, tenant, group = without_delta(make_mirror)
    mirror.sync()
    left, bad = (member.id for member in tenant.members_of(group)[:2])
    came = strangers(tenant, group, 1)[0]
    tenant.remove_member(group, left)
    tenant.add_member(group, came)
    Spoilt(mirror, {group: bad}, f"{group}/members")
    assert tick(mirror) is RunState.PARTIAL
    assert {left, bad, came} <= live(mirror, group)
    mirror.nango.before_graph = None
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)
    assert mirror.sync().state is RunState.SUCCEEDED


def test_a_listing_that_was_malformed_for_a_moment_is_read_again(make_mirror: MakeMirror) -> None:
    mirror, tenant, group = without_delta(make_mirror)
    mirror.sync()
    left, bad = (member.id for member in tenant.members_of(group)[:2])
    tenant.remove_member(group, left)
    spoilt = Spoilt(mirror, {group: bad}, f"{group}/members")
    mirror.nango.before_graph = lambda asked: None if spoilt.spoilt else spoilt(asked)
    mark = read_last_seq(mirror.database)
    assert mirror.sync().state is RunState.SUCCEEDED
    assert spoilt.spoilt == 1
    told = [(e["object_id"], e["change"]) for e in read_events(mirror.database, after=mark)]
    assert told == [(f"{group}/{left}", "deleted")]
    assert_exact(mirror.database, tenant)


# ---- what is left half done


@pytest.mark.parametrize("no_delta", [False, True])
def test_what_one_group_lost_is_applied_where_the_next_cannot_be_read(
    make_mirror: MakeMirror, no_delta: bool
) -> None:
    tenant = Tenant(seed=68, users=60, groups=12, sites=2)
    tenant.options.no_delta = no_delta
    mirror = make_mirror(tenant)
    mirror.sync()
    groups = [row["id"] for row in tenant.iterate_live("groups") if row.get("visibility") != HIDDEN]
    groups = [group for group in groups if len(tenant.members_of(group)) > 1][:2]
    left = {group: tenant.members_of(group)[0].id for group in groups}
    for group, user in left.items():
        tenant.remove_member(group, user)
    stays = {group: tenant.members_of(group)[0].id for group in groups}
    spoilt = Spoilt(mirror, stays if no_delta else left, "/members" if no_delta else DELTA)
    read_again: list[str] = []

    def fail_the_second(asked: Request) -> Response | None:
        if spoilt.spoilt < 2:
            return spoilt(asked)
        read_again.extend(one for one in groups if f"{one}/members" in asked.path)
        is_second = read_again and f"{read_again[0]}/members" not in asked.path
        return said(503, {}) if is_second and "/members" in asked.path else None

    mirror.nango.before_graph = fail_the_second
    assert mirror.sync().state is RunState.PARTIAL
    assert spoilt.spoilt == 2
    assert len(quarantined(mirror)) == 1
    assert fetch_scalar(mirror.database, "select count(*) from sync.removals") == 0
    assert sum(left[group] in live(mirror, group) for group in groups) == 1
    mirror.nango.before_graph = None
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)


def test_more_than_can_be_remembered_is_not_forgotten(mirror: Mirror) -> None:
    """Only a full walk tells what became of it; until then no run succeeds."""
    bad = mirror.tenant.users.id_at(3)
    with mirror.database.open_transaction() as connection:
        connection.exec_driver_sql(
            "insert into sync.quarantine (connection_id, resource, key, reason, retry_at)"
            " select 1, 'users', 'stand-in ' || n, 'x', now() + interval '1 day'"
            f"   from generate_series(1, {MAX_QUARANTINED}) as n"
        )

    mirror.tenant.update_user(bad, city="Delft")
    misname(mirror, bad, "users/delta")
    assert tick(mirror) is RunState.PARTIAL
    with mirror.database.open_transaction() as db:
        db.exec_driver_sql("delete from sync.quarantine where key like 'stand-in %%'")
    assert quarantined(mirror) == ["unreadable:more"]
    mirror.nango.before_graph = None
    assert mirror.sync().state is RunState.PARTIAL
    assert mirror.sync(full=True).state is RunState.SUCCEEDED
    assert_exact(mirror.database, mirror.tenant)
