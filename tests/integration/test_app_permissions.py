"""What applications may do: consents to delegated permissions."""

from typing import Any

import pytest
from sqlalchemy import text

from models.event_type import EVENT_TYPES
from models.run import RunState
from sandbox.tenant import KindCounts, Tenant
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
KINDS = KindCounts(service_principals=30, permission_grants=40)


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
