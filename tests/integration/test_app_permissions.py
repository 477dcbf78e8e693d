"""What applications may do: consents to delegated permissions, and their own permissions."""

import json
from typing import Any

import pytest
from sqlalchemy import text

from models.event_type import EVENT_TYPES
from models.run import RunState
from sandbox.tenant import KindCounts, Request, Response, Tenant
from sandbox.tenant.directory.templates.applications import GRAPH, GRAPH_ROLES
from tests.support.mirror import (
    MakeMirror,
    MakeSynced,
    Mirror,
    assert_exact,
    fetch_scalar,
    read_events,
    read_last_seq,
)
from worker.erasure.erase import erase
from worker.erasure.target import find_target
from worker.store.state.connections import find_connection

PRINCIPALS, GRANTS = "service_principals", "oauth2_permission_grants"
APP_ROLES, PATH = "app_role_assignments", "servicePrincipals/{id}/appRoleAssignedTo"
KINDS = KindCounts(service_principals=30, permission_grants=40, app_roles=20, other_app_roles=10)


@pytest.fixture
def mirror(make_synced: MakeSynced) -> Mirror:
    return make_synced(seed=35, users=40, groups=6, sites=3, kinds=KINDS)


def list_changes(mirror: Mirror, resource: str, after: int) -> dict[str, str]:
    """The type of each event about a resource, by id."""
    return {
        one["object_id"]: EVENT_TYPES[one["resource"], one["change"]]
        for one in read_events(mirror.database, after=after)
        if one["resource"] == resource
    }


def read_grant(mirror: Mirror, grant_id: str) -> Any:
    statement = text(f"select * from directory.{GRANTS} where id = :id and deleted_at is null")
    with mirror.database.open_transaction() as db:
        return db.execute(statement, {"id": grant_id}).one_or_none()


def test_consents_arrive_with_their_scopes_and_change_by_delta(mirror: Mirror) -> None:
    tenant = mirror.tenant
    assert_exact(mirror.database, tenant)
    client, resource = tenant.create_object(PRINCIPALS), tenant.service_principals.id_at(0)
    user, mark = tenant.users.id_at(4), read_last_seq(mirror.database)
    for_all = tenant.grant_permissions(client, resource, " User.Read  Mail.Read ")
    for_one = tenant.grant_permissions(client, resource, "Files.Read.All", user)
    mirror.nango.calls.reset()
    mirror.sync()
    assert mirror.nango.calls.graph["oauth2PermissionGrants"] == 0
    assert list_changes(mirror, GRANTS, mark) == {
        for_all: "permission_grant.created",
        for_one: "permission_grant.created",
    }
    found = read_grant(mirror, for_all)
    assert found.scopes == ["User.Read", "Mail.Read"]
    assert (found.consent_type, found.principal_id) == ("AllPrincipals", None)
    found = read_grant(mirror, for_one)
    assert (found.consent_type, found.principal_id) == ("Principal", user)
    assert (found.client_id, found.resource_id) == (client, resource)
    mark = read_last_seq(mirror.database)
    tenant.grant_permissions(client, resource, "Mail.Read User.Read openid")
    tenant.delete_object(GRANTS, for_one)
    mirror.sync()
    assert list_changes(mirror, GRANTS, mark) == {
        for_all: "permission_grant.updated",
        for_one: "permission_grant.deleted",
    }
    assert_exact(mirror.database, tenant)


def test_another_order_of_the_scopes_is_no_change(mirror: Mirror) -> None:
    tenant = mirror.tenant
    client, resource = tenant.create_object(PRINCIPALS), tenant.service_principals.id_at(0)
    tenant.grant_permissions(client, resource, "User.Read Mail.Read")
    mirror.sync()
    mark = read_last_seq(mirror.database)
    tenant.grant_permissions(client, resource, " Mail.Read User.Read")
    mirror.sync()
    mirror.sync(full=True)
    assert list_changes(mirror, GRANTS, mark) == {}
    assert_exact(mirror.database, tenant)


@pytest.mark.parametrize("scope", ["", " ", None])
def test_a_consent_to_nothing_has_no_scopes(mirror: Mirror, scope: str | None) -> None:
    tenant = mirror.tenant
    one = next(tenant.iterate_live(GRANTS))["id"]
    tenant.update_object(GRANTS, one, scope=scope)
    mirror.sync()
    assert read_grant(mirror, one).scopes == (None if scope is None else [])
    assert_exact(mirror.database, tenant)


def test_consents_go_with_their_application(mirror: Mirror) -> None:
    tenant = mirror.tenant
    client = next(tenant.iterate_live(GRANTS))["clientId"]
    count = f"select count(*) from directory.{GRANTS} where client_id = '{client}' and {{}}"
    assert fetch_scalar(mirror.database, count.format("deleted_at is null")) > 0
    tenant.delete_service_principal(client)
    mirror.sync()
    assert fetch_scalar(mirror.database, count.format("deleted_at is null")) == 0
    assert_exact(mirror.database, tenant)


def test_an_erased_person_is_in_no_consent_and_no_event_of_one(mirror: Mirror) -> None:
    tenant, user = mirror.tenant, mirror.tenant.users.id_at(4)
    client, resource = tenant.create_object(PRINCIPALS), tenant.service_principals.id_at(0)
    grant = tenant.grant_permissions(client, resource, "Files.Read.All", user)
    mirror.sync()
    with mirror.database.open_transaction() as db:
        target = find_target(db, find_connection(db, "1"), user, None)
    erase(mirror.database, target, lambda _table, _rows: None)
    pattern = f"{user}|{grant}"
    left = f"select count(*) from directory.{GRANTS} x where x::text ~* cast(:any as text)"
    told = "select count(*) from events.change_events x where x::text ~* cast(:any as text)"
    for full in (False, False, True):
        assert fetch_scalar(mirror.database, left, any=pattern) == 0
        assert fetch_scalar(mirror.database, told, any=pattern) == 0
        assert mirror.sync(full=full).state is RunState.SUCCEEDED, "and no sync brings it back"


def test_without_delta_consents_are_listed(make_mirror: MakeMirror) -> None:
    tenant = Tenant(seed=36, users=30, groups=4, sites=2, kinds=KINDS)
    tenant.options.no_delta = True
    mirror = make_mirror(tenant)
    for _ in range(2):
        assert mirror.sync().state is RunState.SUCCEEDED
        assert_exact(mirror.database, tenant)
        tenant.mutate(15)


# ---- application permissions


def read_role(mirror: Mirror, assignment_id: str) -> Any:
    statement = text(f"select * from directory.{APP_ROLES} where id = :id and deleted_at is null")
    with mirror.database.open_transaction() as db:
        return db.execute(statement, {"id": assignment_id}).one_or_none()


def test_all_permissions_of_applications_come_in_one_list(mirror: Mirror) -> None:
    """Those of managed identities, which Graph leaves out without a page size, and no others."""
    tenant = mirror.tenant
    assert_exact(mirror.database, tenant)
    principals = {one["id"]: one for one in tenant.iterate_live(PRINCIPALS)}
    graph = next(one for one in principals.values() if one["appId"] == GRAPH)["id"]
    identity = tenant.create_object(PRINCIPALS, servicePrincipalType="ManagedIdentity")
    role, mark = GRAPH_ROLES["Mail.Read"], read_last_seq(mirror.database)
    made = tenant.assign_app_role(graph, identity, role, PRINCIPALS)
    elsewhere = tenant.assign_app_role(tenant.service_principals.id_at(9), tenant.users.id_at(3))
    mirror.nango.calls.reset()
    mirror.sync(APP_ROLES)
    assert mirror.nango.calls.total == 1
    assert list_changes(mirror, APP_ROLES, mark) == {made: "app_role.assigned"}
    found = read_role(mirror, made)
    assert (found.principal_id, found.principal_type) == (identity, "ServicePrincipal")
    assert (found.resource_id, found.app_role_id) == (graph, role)
    assert read_role(mirror, elsewhere) is None, "it is no permission of Microsoft Graph"
    mirror.sync()
    assert_exact(mirror.database, tenant)


def test_a_permission_that_is_taken_away_is_read_by_its_id_first(mirror: Mirror) -> None:
    tenant, mark = mirror.tenant, read_last_seq(mirror.database)
    graph = tenant.service_principals.id_at(0)
    gone, kept = [one["id"] for one in list_graph_roles(tenant)][:2]
    tenant.delete_object(APP_ROLES, gone)
    mirror.nango.calls.reset()
    mirror.sync(APP_ROLES)
    assert mirror.nango.calls.graph[f"{PATH}/{{id}}"] == 1, "below its resource"
    assert list_changes(mirror, APP_ROLES, mark) == {gone: "app_role.unassigned"}
    assert_exact(mirror.database, tenant)
    mark = read_last_seq(mirror.database)
    hide(mirror, kept)
    mirror.sync(APP_ROLES)
    assert list_changes(mirror, APP_ROLES, mark) == {}, "Graph still has it, but did not list it"
    mirror.nango.before_graph = None
    again = tenant.assign_app_role(graph, tenant.service_principals.id_at(7), ROLE, PRINCIPALS)
    tenant.delete_object(APP_ROLES, again)
    mirror.sync(APP_ROLES)
    assert_exact(mirror.database, tenant)


def test_the_views_name_who_may_do_what(mirror: Mirror) -> None:
    tenant, user = mirror.tenant, mirror.tenant.users.id_at(4)
    graph = tenant.service_principals.id_at(0)
    application = tenant.create_object(PRINCIPALS, displayName="Ledger export")
    stranger = tenant.create_object(PRINCIPALS, displayName="Gone")
    for one in (application, stranger):
        tenant.assign_app_role(graph, one, ROLE, PRINCIPALS)
    tenant.grant_permissions(application, graph, " User.Read Mail.Read")
    tenant.grant_permissions(application, graph, "Files.Read.All", user)
    mirror.sync()
    held = (
        "select principal_name, principal_type, resource_name, permission, since_exact"
        " from analytics.app_role_assignments where principal_id = :id"
    )
    told = (
        "select permission, client_name, resource_name, is_for_all_users, user_principal_name"
        " from analytics.permission_grants where client_id = :id order by permission"
    )
    with mirror.database.open_transaction() as db:
        (role,) = db.execute(text(held), {"id": application}).all()
        grants = db.execute(text(told), {"id": application}).all()
    microsoft = "Microsoft Graph"
    assert role == ("Ledger export", "service_principal", microsoft, "Sites.Read.All", True)
    name = next(one for one in tenant.iterate_live("users") if one["id"] == user)
    assert grants == [
        ("Files.Read.All", "Ledger export", microsoft, False, name["userPrincipalName"]),
        ("Mail.Read", "Ledger export", microsoft, True, None),
        ("User.Read", "Ledger export", microsoft, True, None),
    ]


ROLE = GRAPH_ROLES["Sites.Read.All"]


def list_graph_roles(tenant: Tenant) -> list[dict[str, Any]]:
    graph = tenant.service_principals.id_at(0)
    return [one for one in tenant.iterate_live(APP_ROLES) if one["resourceId"] == graph]


def hide(mirror: Mirror, assignment_id: str) -> None:
    """Graph lists all permissions but one."""
    rest = [one for one in list_graph_roles(mirror.tenant) if one["id"] != assignment_id]

    def answer(request: Request) -> Response | None:
        if not request.path.endswith("/appRoleAssignedTo"):
            return None
        headers = {"content-type": "application/json", "request-id": "simulated"}
        return Response(200, json.dumps({"value": rest}).encode(), headers)

    mirror.nango.before_graph = answer


def test_an_application_that_is_deleted_has_no_permission(mirror: Mirror) -> None:
    tenant = mirror.tenant
    principal = list_graph_roles(tenant)[0]["principalId"]
    tenant.delete_service_principal(principal)
    mirror.sync()
    held = f"select count(*) from directory.{APP_ROLES} where principal_id = :id and {{}}"
    assert fetch_scalar(mirror.database, held.format("deleted_at is null"), id=principal) == 0
    assert_exact(mirror.database, tenant)
