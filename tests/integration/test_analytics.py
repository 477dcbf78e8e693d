"""The views for people."""

from collections.abc import Mapping
from typing import Any

import pytest
from sqlalchemy import text

from migrations.views import VIEWS as ANALYTICS_VIEWS
from models.resources import RESOURCES
from sandbox.tenant import KindCounts, Tenant
from sandbox.tenant.directory.members import MemberType
from tests.integration.test_switches import wish
from tests.support.mirror import (
    OFF,
    MakeMirror,
    MakeSynced,
    Mirror,
    compute_mirror_truth,
    fetch_scalar,
)
from worker.ops.schema.migrate import migrate

VIEWS = {one.name for one in ANALYTICS_VIEWS}
COLUMNS = """
    select c.relname as view, a.attname as name, format_type(a.atttypid, a.atttypmod) as type,
           col_description(c.oid, a.attnum) as comment, obj_description(c.oid) as about
      from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
     where c.relnamespace = 'analytics'::regnamespace and c.relkind in ('v', 'm')
"""
ELSEWHERE = "00000000-0000-4000-8000-0000000000"


def rows(mirror: Mirror, statement: str) -> list[Mapping[str, Any]]:
    with mirror.database.open_transaction() as db:
        return [dict(row) for row in db.execute(text(statement)).mappings()]


def test_the_views_show_live_rows_with_names(make_synced: MakeSynced) -> None:
    mirror = make_synced(seed=3, users=60, groups=8, sites=6, kinds=KindCounts.for_users(60))
    truth = compute_mirror_truth(mirror.database)
    of_tables = {name: name for name in VIEWS & truth.keys()} | {"licenses": "subscribed_skus"}
    for name, table in of_tables.items():
        shown = fetch_scalar(mirror.database, f"select count(*) from analytics.{name}")
        assert shown == truth[table].count
    found = rows(
        mirror,
        "select * from analytics.group_members"
        " where member_type = 'user' and member_name is not null limit 1",
    )
    assert found[0]["organization"] == "Contoso"
    assert found[0]["group_name"]
    assert fetch_scalar(mirror.database, "select count(*) from analytics.connections") == 1


def test_a_retired_connection_is_not_shown(mirror: Mirror) -> None:
    with mirror.database.open_transaction() as db:
        db.execute(text("update sync.connections set status = 'retired'"))
    assert fetch_scalar(mirror.database, "select count(*) from analytics.users") == 0
    assert fetch_scalar(mirror.database, "select count(*) from directory.users") == 60


# ---- holders of roles


class Held:
    """One role, and who holds it by the view."""

    def __init__(self, mirror: Mirror) -> None:
        self.mirror, self.tenant = mirror, mirror.tenant
        self.role = self.tenant.create_role_definition(displayName="Keeper")
        self.group = next(self.tenant.iterate_live("groups"))["id"]

    def assign(self, principal: str) -> None:
        self.tenant.assign_role(self.role, principal)

    def holders(self) -> dict[str, tuple[str, str | None]]:
        """By principal, its type and its name."""
        self.mirror.sync()
        found = rows(
            self.mirror, "select * from analytics.role_assignments where role_name = 'Keeper'"
        )
        return {
            one["principal_id"]: (one["principal_type"], one["principal_name"]) for one in found
        }


@pytest.fixture
def held(mirror: Mirror) -> Held:
    return Held(mirror)


@pytest.mark.parametrize("permanently", [False, True])
def test_who_is_deleted_holds_no_role_although_graph_still_lists_it(
    held: Held, permanently: bool
) -> None:
    tenant = held.tenant
    user, group = tenant.users.id_at(7), held.group
    held.assign(user)
    held.assign(group)
    assert {one: kind for one, (kind, _) in held.holders().items()} == {
        user: "user",
        group: "group",
    }
    tenant.delete_user(user, permanently=permanently)
    tenant.delete_group(group, permanently=permanently)
    assert held.holders() == {}
    listed = "select count(*) from directory.role_assignments where role_definition_id = :role"
    live = f"{listed} and deleted_at is null"
    assert fetch_scalar(held.mirror.database, live, role=held.role) == 2


def test_a_restored_principal_holds_its_roles_since_then(held: Held) -> None:
    tenant, mirror = held.tenant, held.mirror
    user, other = tenant.users.id_at(7), tenant.users.id_at(8)
    held.assign(user)
    held.holders()
    tenant.delete_user(user)
    assert held.holders() == {}
    before = fetch_scalar(mirror.database, "select clock_timestamp()")
    tenant.restore_user(user)
    held.assign(other)
    assert held.holders().keys() == {user, other}
    for one in rows(mirror, "select * from analytics.role_assignments where role_name = 'Keeper'"):
        assert one["since"] > before
        assert one["since_exact"] is True
        assert one["at_least_since"] == one["since"]


def test_a_restored_principal_of_a_first_load_holds_its_roles_since_then(mirror: Mirror) -> None:
    assignment = next(mirror.tenant.iterate_live("role_assignments"))
    user = assignment["principalId"]
    mirror.tenant.delete_user(user)
    mirror.sync()
    before = fetch_scalar(mirror.database, "select clock_timestamp()")
    mirror.tenant.restore_user(user)
    mirror.sync()
    found = rows(mirror, f"select * from analytics.role_assignments where principal_id = '{user}'")
    assert all(one["since"] > before and one["since_exact"] for one in found)
    others = f"select count(since) from analytics.role_assignments where principal_id <> '{user}'"
    assert fetch_scalar(mirror.database, others) == 0


@pytest.mark.parametrize("ended", [False, True])
def test_principals_that_are_not_mirrored_have_the_type_of_a_member(
    held: Held, ended: bool
) -> None:
    """Of devices, service principals and contacts only memberships tell; ended ones too."""
    kinds: dict[str, tuple[MemberType, str]] = {
        f"{ELSEWHERE}01": ("servicePrincipal", "service_principal"),
        f"{ELSEWHERE}02": ("device", "device"),
        f"{ELSEWHERE}03": ("orgContact", "org_contact"),
    }
    for principal, (kind, _) in kinds.items():
        held.assign(principal)
        held.tenant.add_member(held.group, principal, kind)
    unknown = f"{ELSEWHERE}99"
    held.assign(unknown)
    held.mirror.sync()
    for principal in kinds if ended else ():
        held.tenant.remove_member(held.group, principal)
    assert held.holders() == {
        **{principal: (kind, None) for principal, (_, kind) in kinds.items()},
        unknown: ("unresolved", None),
    }


@pytest.mark.parametrize("sent", ["'other'", "null"])
def test_a_member_without_a_type_is_resolved_or_called_unresolved(
    mirror: Mirror, sent: str
) -> None:
    members = "select group_id, member_id from analytics.group_members order by 1, 2"
    before = rows(mirror, members)
    with mirror.database.open_transaction() as db:
        db.execute(text(f"update directory.group_members set member_type = {sent}"))
    assert rows(mirror, members) == before
    for kind, where in (
        ("user", "member_id in (select id from directory.users)"),
        ("group", "member_id in (select id from directory.groups)"),
    ):
        of = f"select distinct member_type from analytics.group_members where {where}"
        assert rows(mirror, of) == [{"member_type": kind}]
    rest = "select distinct member_type from analytics.group_members where member_name is null"
    assert rows(mirror, rest) == [{"member_type": "unresolved"}]


def test_a_role_is_known_by_its_template_whatever_its_name(mirror: Mirror) -> None:
    role = next(mirror.tenant.iterate_live("role_assignments"))["roleDefinitionId"]
    template = next(
        one["templateId"]
        for one in mirror.tenant.iterate_live("role_definitions")
        if one["id"] == role
    )
    of = f"select count(*) from analytics.role_assignments where role_template_id = '{template}'"
    before = fetch_scalar(mirror.database, of)
    assert before > 0
    mirror.tenant.update_role_definition(role, displayName="Called otherwise")
    mirror.sync()
    assert fetch_scalar(mirror.database, of) == before
    defined = (
        f"select display_name from analytics.role_definitions where template_id = '{template}'"
    )
    assert fetch_scalar(mirror.database, defined) == "Called otherwise"


# ---- what null means


def silent(tenant: Tenant) -> Tenant:
    """Graph leaves out every boolean, and the types of groups."""
    properties = (
        *("accountEnabled", "onPremisesSyncEnabled", "mailEnabled", "securityEnabled"),
        *("isAssignableToRole", "groupTypes", "isPersonalSite", "root", "isBuiltIn", "isEnabled"),
        *("isResourceAccount", "passwordPolicies", "isManagementRestricted"),
        *("appRoleAssignmentRequired", "appOwnerOrganizationId"),
    )
    for name in ("users", "groups", "sites", "role_definitions", "service_principals"):
        shelf = tenant.store(name)
        for index in shelf.iterate_live():
            for one in properties:
                shelf.edit(index).props.pop(one, None)
    return tenant


def test_booleans_are_never_null_and_say_what_absence_counts_as(make_mirror: MakeMirror) -> None:
    kinds = KindCounts.for_users(30)
    tenant = Tenant(seed=3, users=30, groups=8, sites=9, kinds=kinds)
    action = "microsoft.directory/users/password/update"
    allowed = [{"allowedResourceActions": [action], "condition": None}]
    tenant.assign_role(
        tenant.create_role_definition(templateId=None, rolePermissions=allowed),
        tenant.users.id_at(3),
    )
    mirror = make_mirror(silent(tenant))
    wish(mirror, resources=dict.fromkeys(OFF, True))
    mirror.sync()
    mirror.tenant.update_user(mirror.tenant.users.id_at(3), jobTitle="Judge")
    mirror.tenant.delete_user(mirror.tenant.users.id_at(9))
    mirror.sync()
    booleans = [one for one in rows(mirror, COLUMNS) if one["type"] == "boolean"]
    assert {one["name"] for one in booleans} >= {
        "is_personal_site",
        "account_enabled",
        "is_dynamic",
    }
    for one in booleans:
        of = f"select count(*) > 0, count({one['name']}) = count(*) from analytics.{one['view']}"
        with mirror.database.open_transaction() as db:
            assert tuple(db.execute(text(of)).one()) == (True, True), (one["view"], one["name"])
        assert "; null " not in one["comment"], one["name"]
    enabled = "select bool_and(account_enabled) from analytics.users"
    assert fetch_scalar(mirror.database, enabled), "whose absence does not mean false"


def test_what_graph_sends_is_shown_as_it_is(mirror: Mirror) -> None:
    personal = [
        one["webUrl"] for one in mirror.tenant.iterate_live("sites") if one.get("isPersonalSite")
    ]
    found = rows(mirror, "select web_url from analytics.sites where is_personal_site")
    assert sorted(one["web_url"] for one in found) == sorted(personal)
    others = "select count(*) from analytics.sites where not is_personal_site"
    assert fetch_scalar(mirror.database, others) == 6 - len(personal)
    synced = [
        one for one in mirror.tenant.iterate_live("users") if one.get("onPremisesSyncEnabled")
    ]
    cloud = "select count(*) from analytics.users where not on_premises_sync_enabled"
    assert fetch_scalar(mirror.database, cloud) == 60 - len(synced) > 0


def test_every_column_of_every_view_is_explained(mirror: Mirror) -> None:
    found = rows(mirror, COLUMNS)
    assert {one["view"] for one in found} == VIEWS
    assert [f"{one['view']}.{one['name']}" for one in found if not one["comment"]] == []
    assert [one["view"] for one in found if not one["about"]] == []
    assert {one["type"] for one in found} <= {
        *("text", "uuid", "bigint", "integer", "boolean", "timestamp with time zone"),
        *("double precision", "text[]"),
    }


def test_every_view_names_its_customer_and_the_columns_that_identify_a_row() -> None:
    for view in ANALYTICS_VIEWS:
        names = [one.name for one in view.columns]
        assert {"organization", "connection_id"} <= set(names), view.name
        assert view.key, view.name
        assert set(view.key) <= set(names), view.name
        assert len(names) == len(set(names)), view.name
        # A reserved word of DuckDB, and what would name no view.
        assert "at" not in names, view.name
        assert {one.references for one in view.columns} - {""} <= VIEWS, view.name


APART = {
    "users": {"assigned_licenses", "employee_org_data", "on_premises_extension_attributes"},
    "groups": {"group_types", "assigned_licenses"},
    "role_definitions": {"role_permissions"},
    "service_principals": {
        *("verified_publisher", "app_roles", "key_credentials", "password_credentials"),
    },
}
"""Nested values, which the views show in columns of their own or leave to a view with more rows."""


@pytest.mark.parametrize("name", [*APART, "sites", "group_members", "administrative_units"])
def test_a_view_shows_every_mirrored_column(name: str) -> None:
    (view,) = (one for one in ANALYTICS_VIEWS if one.name == name)
    shown = {one.name for one in view.columns}
    assert {*RESOURCES[name].column_names} - shown == APART.get(name, set())


def test_who_could_read_the_views_can_read_them_after_a_downgrade(mirror: Mirror) -> None:
    """Roles belong to the whole server, so everybody stands for one of them."""
    with mirror.database.open_transaction() as db:
        db.execute(text("grant select on analytics.role_assignments to public"))
    granted = (
        "select count(*) from information_schema.role_table_grants"
        " where table_name = 'role_assignments' and table_schema = 'analytics'"
        " and grantee = 'PUBLIC' and privilege_type = 'SELECT'"
    )
    migrate(mirror.database, "0024")
    assert fetch_scalar(mirror.database, granted) == 1
    migrate(mirror.database)
    assert fetch_scalar(mirror.database, granted) == 1
