"""Since when memberships and roles are held: the current span, where it was seen to begin."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import text

from models.run import RunState
from sandbox.tenant import Tenant
from tests.integration.test_quarantine import Spoilt
from tests.integration.test_refused_parts import answer, refuse, some_groups
from tests.support.mirror import MakeMirror, Mirror, assert_exact, fetch_scalar
from worker.ops.schema.migrate import migrate

pytestmark = pytest.mark.first_resources

MEMBER = "analytics.group_members where group_id = '{0}' and member_id = '{1}'"
HELD = "analytics.role_assignments where id = '{0}'"


class SinceViews:
    """What the views say, and the moments around it."""

    def __init__(self, mirror: Mirror) -> None:
        self.mirror, self.tenant = mirror, mirror.tenant
        group = next(one for one in some_groups(self.tenant) if self._is_open(one))
        self.group = group
        self.inside = next(one.id for one in self.tenant.members_of(group) if one.type == "user")
        members = {one.id for one in self.tenant.members_of(group)}
        users = [row["id"] for row in self.tenant.iterate_live("users")]
        self.outside = next(one for one in users if one not in members)
        self.role = next(self.tenant.iterate_live("role_definitions"))["id"]

    def _is_open(self, group: str) -> bool:
        rows = {row["id"]: row for row in self.tenant.iterate_live("groups")}
        return rows[group].get("visibility") != "HiddenMembership"

    def now(self) -> datetime:
        found: datetime = fetch_scalar(self.mirror.database, "select clock_timestamp()")
        return found

    def row(self, of: str, *keys: str) -> Mapping[str, Any]:
        with self.mirror.database.open_transaction() as db:
            found = db.execute(text(f"select * from {of.format(*keys)}"))
            return dict(found.mappings().one())

    def member(self, member: str) -> Mapping[str, Any]:
        return self.row(MEMBER, self.group, member)

    def execute(self, statement: str) -> None:
        with self.mirror.database.open_transaction() as db:
            db.execute(text(statement))


@pytest.fixture
def told(mirror: Mirror) -> SinceViews:
    return SinceViews(mirror)


def assert_known(row: Mapping[str, Any], after: datetime, before: datetime) -> None:
    assert after < row["since"] < before
    assert row["since_exact"] is True
    assert row["at_least_since"] == row["since"]


def assert_unknown(row: Mapping[str, Any]) -> None:
    assert (row["since"], row["since_exact"]) == (None, False)
    assert row["at_least_since"] is not None


@pytest.mark.parametrize("view", ["group_members", "role_assignments"])
def test_the_day_of_a_first_load_is_not_told_as_a_beginning(mirror: Mirror, view: str) -> None:
    odd = f"select count(*) from analytics.{view} where since is not null or since_exact"
    assert fetch_scalar(mirror.database, odd) == 0
    of = f"select count(*), count(at_least_since) from analytics.{view}"
    with mirror.database.open_transaction() as db:
        number, bounded = db.execute(text(of)).one()
    assert number == bounded > 0


@pytest.mark.parametrize("full", [False, True])
def test_what_comes_later_began_then(told: SinceViews, full: bool) -> None:
    before = told.now()
    told.tenant.add_member(told.group, told.outside)
    told.tenant.add_member(told.group, "00000000-0000-4000-8000-0000000000aa", "servicePrincipal")
    assignment = told.tenant.assign_role(told.role, told.outside, "/administrativeUnits/x")
    told.mirror.sync(full=full)
    after = told.now()
    assert_known(told.member(told.outside), before, after)
    assert_known(told.member("00000000-0000-4000-8000-0000000000aa"), before, after)
    assert_known(told.row(HELD, assignment), before, after)
    told.mirror.sync(full=True)
    assert_known(told.member(told.outside), before, after)
    assert_known(told.row(HELD, assignment), before, after)


@pytest.mark.parametrize("full", [False, True])
def test_removed_and_added_again_counts_from_the_second_time(told: SinceViews, full: bool) -> None:
    tenant, mirror = told.tenant, told.mirror
    first = tenant.assign_role(told.role, told.outside, "/administrativeUnits/x")
    mirror.sync()
    for _ in range(2):
        tenant.remove_member(told.group, told.inside)
        tenant.unassign_role(first)
        mirror.sync(full=full)
        gone = f"select count(*) from {MEMBER.format(told.group, told.inside)}"
        assert fetch_scalar(mirror.database, gone) == 0
        before = told.now()
        tenant.add_member(told.group, told.inside)
        assert tenant.assign_role(told.role, told.outside, "/administrativeUnits/x") == first
        mirror.sync(full=full)
        after = told.now()
        assert_known(told.member(told.inside), before, after)
        assert_known(told.row(HELD, first), before, after)
    assert_exact(mirror.database, tenant)


def test_removed_and_added_between_two_readings_is_no_new_beginning(told: SinceViews) -> None:
    told.tenant.remove_member(told.group, told.inside)
    told.tenant.add_member(told.group, told.inside)
    told.mirror.sync()
    assert_unknown(told.member(told.inside))


@pytest.mark.parametrize("readd", [False, True])
@pytest.mark.parametrize("what", ["user", "group"])
def test_memberships_of_who_is_restored_began_with_that(
    told: SinceViews, what: str, readd: bool
) -> None:
    """Whether Graph reports them again, or has to be asked."""
    tenant, mirror = told.tenant, told.mirror
    tenant.options.readd_on_restore = readd
    if what == "user":
        tenant.delete_user(told.inside)
    else:
        tenant.delete_group(told.group)
    mirror.sync()
    before = told.now()
    if what == "user":
        tenant.restore_user(told.inside)
    else:
        tenant.restore_group(told.group)
    mirror.sync()
    assert_known(told.member(told.inside), before, told.now())
    assert_exact(mirror.database, tenant)


def test_a_change_within_the_span_moves_no_beginning(told: SinceViews) -> None:
    before = told.now()
    assignment = told.tenant.assign_role(told.role, told.outside, "/administrativeUnits/x")
    told.mirror.sync()
    after = told.now()
    told.execute("update directory.role_assignments set condition = 'old', row_hash = null")
    told.mirror.sync(full=True)
    assert_known(told.row(HELD, assignment), before, after)
    changed = "select count(*) from directory.role_assignments where changed_at > live_since"
    assert fetch_scalar(told.mirror.database, changed) == 1


def test_what_began_while_nothing_was_read_has_no_known_beginning(told: SinceViews) -> None:
    """After an outage, of a day here, it may have begun at any time in it."""
    told.execute("update sync.streams set fresh_at = fresh_at - interval '1 day'")
    told.tenant.add_member(told.group, told.outside)
    assignment = told.tenant.assign_role(told.role, told.outside, "/administrativeUnits/x")
    told.mirror.sync()
    assert_unknown(told.member(told.outside))
    assert_unknown(told.row(HELD, assignment))


def test_what_comes_back_after_an_outage_has_no_known_beginning(told: SinceViews) -> None:
    told.tenant.add_member(told.group, told.outside)
    told.mirror.sync()
    told.tenant.remove_member(told.group, told.outside)
    told.mirror.sync()
    told.execute("update sync.streams set fresh_at = fresh_at - interval '1 day'")
    told.tenant.add_member(told.group, told.outside)
    told.mirror.sync()
    assert_unknown(told.member(told.outside))


@pytest.mark.parametrize("readd", [False, True])
def test_memberships_that_came_back_during_an_outage_have_no_known_beginning(
    told: SinceViews, readd: bool
) -> None:
    tenant = told.tenant
    tenant.options.readd_on_restore = readd
    tenant.delete_user(told.inside)
    told.mirror.sync()
    told.execute("update sync.streams set fresh_at = fresh_at - interval '1 day'")
    tenant.restore_user(told.inside)
    told.mirror.sync()
    assert_unknown(told.member(told.inside))
    assert_exact(told.mirror.database, tenant)


def test_a_resource_that_was_refused_until_now_is_loaded_for_the_first_time(
    make_mirror: MakeMirror,
) -> None:
    mirror = make_mirror(Tenant(seed=3, users=60, groups=8, sites=2))
    refuse(mirror, answer(403), "roleManagement")
    mirror.sync()
    assert fetch_scalar(mirror.database, "select count(*) from analytics.role_assignments") == 0
    mirror.nango.before_graph = None
    mirror.sync()
    counts = "select count(*) > 0 and count(since) = 0 from analytics.role_assignments"
    assert fetch_scalar(mirror.database, counts) is True


def test_members_that_graph_did_not_answer_for_have_no_known_beginning(
    make_mirror: MakeMirror,
) -> None:
    tenant = Tenant(seed=73, users=60, groups=30, sites=2)
    tenant.options.no_delta = True
    mirror = make_mirror(tenant)
    told = SinceViews(mirror)
    refuse(mirror, answer(403), f"{told.group}/members")
    assert mirror.sync().state is RunState.PARTIAL
    mirror.nango.before_graph = None
    mirror.sync()
    assert_unknown(told.member(told.inside))
    before = told.now()
    tenant.add_member(told.group, told.outside)
    mirror.sync(full=True)
    assert_known(told.member(told.outside), before, told.now())


def test_members_that_were_malformed_have_no_known_beginning(make_mirror: MakeMirror) -> None:
    mirror = make_mirror(Tenant(seed=3, users=60, groups=8, sites=2))
    told = SinceViews(mirror)
    spoilt = Spoilt(mirror, {told.group: told.inside})
    mirror.sync()
    assert spoilt.spoilt > 0
    mirror.nango.before_graph = None
    mirror.sync()
    assert_unknown(told.member(told.inside))


def test_an_assignment_that_was_malformed_has_no_known_beginning(make_mirror: MakeMirror) -> None:
    mirror = make_mirror(Tenant(seed=3, users=60, groups=8, sites=2))
    told = SinceViews(mirror)
    assignment = next(mirror.tenant.iterate_live("role_assignments"))
    role = assignment["roleDefinitionId"]
    assert role is not None
    index = mirror.tenant.index_of("role_assignments", assignment["id"])
    mirror.tenant.role_assignments.edit(index).props["principalId"] = "nonsense"
    mirror.sync()
    mirror.tenant.role_assignments.edit(index).props["principalId"] = assignment["principalId"]
    mirror.sync()
    assert_unknown(told.row(HELD, assignment["id"]))


def test_hidden_members_that_a_permission_reveals_have_no_known_beginning(
    make_mirror: MakeMirror,
) -> None:
    tenant = Tenant(seed=3, users=60, groups=8, sites=2)
    tenant.options.hide_hidden_members = True
    mirror = make_mirror(tenant)
    told = SinceViews(mirror)
    told.group = tenant.create_group(visibility="HiddenMembership")
    tenant.add_member(told.group, told.inside)
    mirror.sync()
    tenant.options.hide_hidden_members = False
    mirror.sync(full=True)
    assert_unknown(told.member(told.inside))


def test_what_an_earlier_release_revives_has_no_known_beginning(told: SinceViews) -> None:
    """It does not know the column, and leaves the beginning of the span that ended."""
    told.tenant.add_member(told.group, told.outside)
    told.mirror.sync()
    where = f"where group_id = '{told.group}' and member_id = '{told.outside}'"
    told.execute(f"update directory.group_members set deleted_at = now() {where}")
    told.execute(
        "update directory.group_members set member_type = 'user', deleted_at = null,"
        f" deleted_reason = null, changed_at = now() {where}"
    )
    assert_unknown(told.member(told.outside))


BEFORE = "0016"
KNOWN = """
    select count(*) || ' ' || coalesce(string_agg(live_since::text, ' ' order by live_since), '')
      from directory.{} where deleted_at is null and live_since is not null
"""


def known(mirror: Mirror) -> dict[str, str]:
    tables = ("users", "groups", "group_members", "sites", "role_assignments")
    return {name: fetch_scalar(mirror.database, KNOWN.format(name)) for name in tables}


def upgraded_again(mirror: Mirror) -> None:
    migrate(mirror.database, BEFORE)
    mirror.database.close()
    migrate(mirror.database)


def test_an_upgrade_takes_beginnings_from_the_events(told: SinceViews) -> None:
    tenant, mirror = told.tenant, told.mirror
    tenant.assign_role(told.role, told.outside, "/administrativeUnits/x")
    tenant.add_member(told.group, told.outside)
    tenant.remove_member(told.group, told.inside)
    tenant.delete_user(tenant.users.id_at(9))
    mirror.sync()
    tenant.add_member(told.group, told.inside)
    tenant.restore_user(tenant.users.id_at(9))
    tenant.create_site(displayName="New")
    mirror.sync()
    tenant.mutate(40)
    mirror.sync()
    noted = known(mirror)
    assert int(noted["group_members"].split()[0]) > 2
    upgraded_again(mirror)
    assert known(mirror) == noted
    upgraded_again(mirror)
    assert known(mirror) == noted


def test_an_upgrade_knows_without_events_what_never_changed(told: SinceViews) -> None:
    before = told.now()
    told.tenant.add_member(told.group, told.outside)
    told.tenant.remove_member(told.group, told.inside)
    told.mirror.sync()
    after = told.now()
    told.tenant.add_member(told.group, told.inside)
    told.mirror.sync()
    told.execute("delete from events.change_events")
    upgraded_again(told.mirror)
    assert_known(told.member(told.outside), before, after)
    assert_unknown(told.member(told.inside))


def test_events_that_sinks_do_not_get_change_no_beginning(make_mirror: MakeMirror) -> None:
    mirror = make_mirror(Tenant(seed=3, users=60, groups=8, sites=2))
    told = SinceViews(mirror)
    told.execute(
        "update sync.connections"
        """ set settings = '{"tenant_mirror": {"initial_events": false}}'"""
    )
    mirror.sync()
    assert_unknown(told.member(told.inside))
