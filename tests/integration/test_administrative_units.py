"""Administrative units and their members: a second kind of parent, in a delta of its own."""

from typing import Any

import pytest

from models.run import RunState
from sandbox.tenant import Tenant
from sandbox.tenant.directory.kind_counts import KindCounts
from tests.support.mirror import (
    MakeMirror,
    Mirror,
    assert_exact,
    fetch_scalar,
    read_events,
    read_last_seq,
    verify_connection,
)

UNITS, MEMBERS = "administrative_units", "administrative_unit_members"
KINDS = KindCounts(administrative_units=8, unit_members=4)
LIVE = f"select count(*) from directory.{MEMBERS} where deleted_at is null"


def build_tenant() -> Tenant:
    return Tenant(seed=11, users=40, groups=6, members_per_group=3, kinds=KINDS)


@pytest.fixture
def mirror(make_mirror: MakeMirror) -> Mirror:
    made = make_mirror(build_tenant())
    assert made.sync().state is RunState.SUCCEEDED
    return made


def told(mirror: Mirror, mark: int) -> list[tuple[str, str, str]]:
    events = read_events(mirror.database, after=mark)
    return [
        (one["change"], one["resource"], one["object_id"])
        for one in events
        if one["resource"] in (UNITS, MEMBERS)
    ]


def list_members(tenant: Tenant) -> list[tuple[str, str, str]]:
    """Return unit, member and type of each live edge."""
    found = tenant.iterate_live(MEMBERS)
    return [(one["unitId"], one["id"], one["@odata.type"].rpartition(".")[2]) for one in found]


def reason_of(mirror: Mirror) -> Any:
    statement = f"select reason from sync.streams where resource = '{UNITS}'"
    return fetch_scalar(mirror.database, statement)


def test_units_come_with_their_members_in_one_delta(mirror: Mirror) -> None:
    truth = mirror.tenant.truth()
    assert (truth[UNITS].count, truth[MEMBERS].count > 8) == (8, True)
    assert_exact(mirror.database, mirror.tenant)
    assert [path for path in mirror.nango.calls.graph if path.endswith("}/members")] == []
    mirror.nango.calls.reset()
    assert mirror.sync().state is RunState.SUCCEEDED
    assert mirror.nango.calls.kinds["proxy"] == 1


def test_changes_of_units_and_their_members_are_told(mirror: Mirror) -> None:
    tenant, mark = mirror.tenant, read_last_seq(mirror.database)
    first, second = (tenant.administrative_units.id_at(number) for number in (1, 2))
    new = str(tenant.create_user(displayName="New"))
    tenant.add_edge(MEMBERS, first, new)
    tenant.update_object(UNITS, second, displayName="Nordics")
    mirror.sync()
    assert sorted(told(mirror, mark)) == sorted(
        [("created", MEMBERS, f"{first}/{new}"), ("updated", UNITS, second)]
    )
    mark = read_last_seq(mirror.database)
    lost = {f"{first}/{member}" for unit, member, _ in list_members(tenant) if unit == first}
    tenant.delete_object(UNITS, first)
    mirror.sync()
    assert told(mirror, mark)[-1] == ("deleted", UNITS, first), "after its members"
    assert {key for _, resource, key in told(mirror, mark) if resource == MEMBERS} == lost
    assert_exact(mirror.database, tenant)
    assert verify_connection(mirror.database).problems == []


@pytest.mark.parametrize("kind", ["user", "group"])
@pytest.mark.parametrize("readds", [True, False])
def test_members_end_and_come_back_with_the_user_or_group(
    mirror: Mirror, kind: str, readds: bool
) -> None:
    """Graph has no list of a user's units that needs no further permission: units are listed."""
    tenant, mark = mirror.tenant, read_last_seq(mirror.database)
    tenant.options.readd_on_restore = readds
    member = next(one for _, one, type_ in list_members(tenant) if type_ == kind)
    lost = {f"{unit}/{one}" for unit, one, _ in list_members(tenant) if one == member}
    tenant.delete_user(member) if kind == "user" else tenant.delete_group(member)
    mirror.sync()
    ended = {
        key for change, name, key in told(mirror, mark) if (change, name) == ("deleted", MEMBERS)
    }
    assert ended == lost
    assert_exact(mirror.database, tenant)
    mark = read_last_seq(mirror.database)
    tenant.restore_user(member) if kind == "user" else tenant.restore_group(member)
    mirror.sync()
    assert {key for change, _, key in told(mirror, mark) if change == "restored"} == lost
    assert_exact(mirror.database, tenant)
    assert verify_connection(mirror.database).problems == []


def hide(mirror: Mirror) -> str:
    """Make a unit with members hide them, and return its id."""
    tenant = mirror.tenant
    for number in range(8):
        one = tenant.administrative_units.id_at(number)
        tenant.update_object(UNITS, one, visibility=None)
    unit = list_members(tenant)[0][0]
    tenant.update_object(UNITS, unit, visibility="HiddenMembership")
    mirror.sync()
    return unit


def test_members_that_are_only_hidden_are_held(mirror: Mirror) -> None:
    """Without the permission Graph refuses nothing, and shows no member of such a unit."""
    unit, before = hide(mirror), fetch_scalar(mirror.database, LIVE)
    mark = read_last_seq(mirror.database)
    mirror.tenant.options.hide_hidden_members = True
    mirror.sync(full=True)
    assert told(mirror, mark) == []
    assert fetch_scalar(mirror.database, LIVE) == before
    assert "an administrative unit with hidden membership" in reason_of(mirror)
    held = f"select count(*) from sync.removals where resource = '{MEMBERS}' and held"
    of_unit = sum(1 for one, _, _ in list_members(mirror.tenant) if one == unit)
    assert fetch_scalar(mirror.database, held) == of_unit > 0
    mirror.tenant.options.hide_hidden_members = False
    mirror.sync(full=True)
    assert fetch_scalar(mirror.database, held) == 0
    assert_exact(mirror.database, mirror.tenant)


def test_units_are_listed_with_their_members_where_they_have_no_delta(
    make_mirror: MakeMirror,
) -> None:
    tenant = build_tenant()
    tenant.options.no_delta = True
    mirror = make_mirror(tenant)
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)
    assert mirror.nango.calls.graph["directory/administrativeUnits/{id}/members"] == 8
    unit, member, _ = list_members(tenant)[0]
    tenant.remove_edge(MEMBERS, unit, member)
    tenant.add_edge(MEMBERS, unit, str(tenant.create_user(displayName="New")))
    mirror.sync(full=True)
    assert_exact(mirror.database, tenant)


def test_a_tenant_that_refuses_units_keeps_everything_else(make_mirror: MakeMirror) -> None:
    tenant = build_tenant()
    tenant.options.refused_resources = {UNITS, MEMBERS}
    mirror = make_mirror(tenant)
    report = mirror.sync()
    assert report.state is RunState.PARTIAL
    assert "AdministrativeUnit.Read.All" in reason_of(mirror)
    assert fetch_scalar(mirror.database, "select count(*) from directory.users") == 40
