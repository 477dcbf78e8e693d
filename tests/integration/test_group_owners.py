"""Owners of groups: a second relation in the delta of groups, which asks for nothing more."""

from typing import Any

import pytest
from sqlalchemy import text

from models.run import RunState
from sandbox.tenant import Tenant
from sandbox.tenant.directory.kind_counts import KindCounts
from tests.integration.test_refused_parts import answer, refuse
from tests.support.mirror import (
    MakeMirror,
    Mirror,
    assert_exact,
    fetch_scalar,
    read_events,
    read_last_seq,
    verify_connection,
)

OWNED = KindCounts(owners=2)
STORED = "select count(*) from directory.group_owners where deleted_at is null"


def build_tenant(seed: int = 5, **more: Any) -> Tenant:
    return Tenant(seed=seed, users=40, groups=9, members_per_group=3, kinds=OWNED, **more)


@pytest.fixture
def mirror(make_mirror: MakeMirror) -> Mirror:
    made = make_mirror(build_tenant())
    assert made.sync().state is RunState.SUCCEEDED
    return made


def list_owned(tenant: Tenant) -> dict[str, list[str]]:
    """Return the users that own each group, by its id."""
    owned: dict[str, list[str]] = {}
    for one in tenant.iterate_live("group_owners"):
        if one["@odata.type"].endswith("user"):
            owned.setdefault(one["groupId"], []).append(one["id"])
    return owned


def told(mirror: Mirror, mark: int) -> list[tuple[str, str, str]]:
    events = read_events(mirror.database, after=mark)
    return [
        (one["change"], one["resource"], one["object_id"])
        for one in events
        if one["resource"] == "group_owners"
    ]


def test_owners_come_with_the_groups(mirror: Mirror) -> None:
    truth = mirror.tenant.truth()["group_owners"]
    assert truth.count > 5
    assert_exact(mirror.database, mirror.tenant)
    asked = [call for call in mirror.nango.calls.graph if "owners" in call]
    assert asked == [], "no list of owners was asked for"
    mirror.nango.calls.reset()
    assert mirror.sync().state is RunState.SUCCEEDED
    assert mirror.nango.calls.kinds["proxy"] == 1


def test_an_owner_that_comes_and_goes_is_told(mirror: Mirror) -> None:
    tenant, mark = mirror.tenant, read_last_seq(mirror.database)
    group = tenant.groups.id_at(2)
    new = str(tenant.create_user(displayName="New"))
    tenant.add_edge("group_owners", group, new)
    mirror.sync()
    assert told(mirror, mark) == [("created", "group_owners", f"{group}/{new}")]
    (event,) = (e for e in read_events(mirror.database, after=mark) if "owner_id" in e["after"])
    assert event["after"] == {"group_id": group, "owner_id": new, "owner_type": "user"}
    assert event["initial"] is False
    since = "select live_since from directory.group_owners where owner_id = :id"
    assert fetch_scalar(mirror.database, since, id=new) is not None
    mark = read_last_seq(mirror.database)
    tenant.remove_edge("group_owners", group, new)
    mirror.sync()
    assert told(mirror, mark) == [("deleted", "group_owners", f"{group}/{new}")]
    assert_exact(mirror.database, tenant)
    assert verify_connection(mirror.database).problems == []


@pytest.mark.parametrize("whose", ["the owner", "the group"])
def test_owners_end_and_come_back_with_either_end(mirror: Mirror, whose: str) -> None:
    tenant, mark = mirror.tenant, read_last_seq(mirror.database)
    owned = list_owned(tenant)
    group = next(iter(owned))
    if whose == "the owner":
        one = owned[group][0]
        lost = {f"{of}/{one}" for of, owners in owned.items() if one in owners}
        tenant.delete_user(one)
    else:
        lost = {
            f"{group}/{e['id']}"
            for e in tenant.iterate_live("group_owners")
            if e["groupId"] == group
        }
        tenant.delete_group(group)
    mirror.sync()
    assert {key for change, _, key in told(mirror, mark) if change == "deleted"} == lost
    reason = "select string_agg(distinct deleted_reason, ' ') from directory.group_owners"
    assert fetch_scalar(mirror.database, f"{reason} where deleted_at is not null") == "cascade"
    assert_exact(mirror.database, tenant)
    tenant.options.readd_on_restore = False
    tenant.restore_user(one) if whose == "the owner" else tenant.restore_group(group)
    mark = read_last_seq(mirror.database)
    mirror.sync()
    assert {key for change, _, key in told(mirror, mark) if change == "restored"} == lost
    assert_exact(mirror.database, tenant)
    assert verify_connection(mirror.database).problems == []


def left_out(mirror: Mirror) -> Any:
    statement = "select left_out from sync.streams where resource = 'groups'"
    return fetch_scalar(mirror.database, statement)


@pytest.mark.parametrize("names", [True, False])
def test_a_tenant_that_refuses_owners_lacks_them_alone(
    make_mirror: MakeMirror, names: bool
) -> None:
    tenant = build_tenant()
    tenant.options.unknown_properties = {"groups.owners"}
    tenant.options.names_unknown_property = names
    mirror = make_mirror(tenant)
    assert mirror.sync().state is RunState.SUCCEEDED
    assert left_out(mirror) == ["owners"]
    assert fetch_scalar(mirror.database, STORED) == 0
    members = "select count(*) from directory.group_members where deleted_at is null"
    assert fetch_scalar(mirror.database, members) == tenant.truth()["group_members"].count > 0
    tenant.options.unknown_properties = set()
    mark = read_last_seq(mirror.database)
    mirror.sync(full=True)
    assert left_out(mirror) is None
    assert_exact(mirror.database, tenant)
    events = read_events(mirror.database, after=mark)
    assert {(e["resource"], e["initial"]) for e in events if e["resource"]} == {
        ("group_owners", True)
    }


def test_owners_that_are_refused_later_stay_as_they_were(mirror: Mirror) -> None:
    """That Graph does not tell them is no evidence that they are gone."""
    before = fetch_scalar(mirror.database, STORED)
    mirror.tenant.options.unknown_properties = {"groups.owners"}
    mark = read_last_seq(mirror.database)
    mirror.sync(full=True)
    assert left_out(mirror) == ["owners"]
    assert fetch_scalar(mirror.database, STORED) == before > 0
    assert told(mirror, mark) == []
    owner = list_owned(mirror.tenant).popitem()[1][0]
    mirror.tenant.delete_user(owner)
    mirror.sync()
    assert {change for change, _, _ in told(mirror, mark)} == {"deleted"}, "as memberships do"
    assert verify_connection(mirror.database).problems == []


def test_owners_are_listed_where_groups_have_no_delta(make_mirror: MakeMirror) -> None:
    tenant = build_tenant()
    tenant.options.no_delta = True
    mirror = make_mirror(tenant)
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)
    assert mirror.nango.calls.graph["groups/{id}/owners"] == 9
    owned = list_owned(tenant)
    group = next(iter(owned))
    tenant.remove_edge("group_owners", group, owned[group][0])
    tenant.add_edge("group_owners", group, str(tenant.create_user(displayName="New")))
    mirror.sync(full=True)
    assert_exact(mirror.database, tenant)


def test_lists_of_owners_that_are_all_refused_are_left_out(make_mirror: MakeMirror) -> None:
    tenant = build_tenant()
    tenant.options.no_delta = True
    mirror = make_mirror(tenant)
    refuse(mirror, answer(403), "/owners")
    assert mirror.sync().state is RunState.SUCCEEDED
    assert left_out(mirror) == ["owners"]
    assert fetch_scalar(mirror.database, STORED) == 0
    members = "select count(*) from directory.group_members where deleted_at is null"
    assert fetch_scalar(mirror.database, members) == tenant.truth()["group_members"].count > 0


def test_an_upgrade_brings_owners_as_a_first_load_of_their_own(make_mirror: MakeMirror) -> None:
    """Deltas go on as before; a walk brings the owners, and their events belong to a first load."""
    tenant = build_tenant()
    tenant.options.unknown_properties = {"groups.owners"}
    mirror = make_mirror(tenant)
    mirror.sync()
    tenant.options.unknown_properties = set()
    with mirror.database.open_transaction() as db:
        db.execute(text("update sync.streams set left_out = null, left_out_at = null"))
    mirror.nango.calls.reset()
    mirror.sync("groups")
    assert mirror.nango.calls.kinds["proxy"] == 1, "the walk is not due yet"
    mark = read_last_seq(mirror.database)
    group, new = tenant.groups.id_at(1), str(tenant.create_user(displayName="New"))
    tenant.add_member(group, new)
    mirror.sync("groups", full=True)
    events = [e for e in read_events(mirror.database, after=mark) if e["resource"]]
    assert {(e["resource"], e["change"], e["initial"]) for e in events} >= {
        ("group_members", "created", False),
        ("group_owners", "created", True),
    }
    assert {e["initial"] for e in events if e["resource"] == "group_owners"} == {True}
    since = "select count(*) from directory.group_owners where live_since is not null"
    assert fetch_scalar(mirror.database, since) == 0, "the beginning was not observed"
    mirror.sync()
    assert_exact(mirror.database, tenant)
