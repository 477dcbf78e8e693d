"""What only some tenants have: applications, licences, units, schedules of roles, sign-ins."""

import json
from random import Random
from typing import Any

import pytest

from models.property import guid, integer, text, texts, timestamp
from models.resource import Resource
from models.resources import RESOURCES
from models.source import Source
from sandbox.tenant import KindCounts, Tenant, TenantOptions
from sandbox.tenant.directory.fields import KINDS
from sandbox.tenant.directory.templates.applications import GRAPH, GRAPH_ROLES, SECRET_MARKS
from sandbox.tenant.directory.truth import build_declared_row, has_row
from tests.support.clients import ServeTenant

ALL = KindCounts(
    owners=1,
    managers=True,
    sign_ins=True,
    service_principals=40,
    applications=4,
    app_roles=25,
    other_app_roles=10,
    permission_grants=12,
    skus=4,
    administrative_units=3,
    unit_members=4,
    pim=True,
    eligibilities=6,
)
GRAPH_PART = f"servicePrincipals(appId='{GRAPH}')/appRoleAssignedTo"
ELIGIBILITIES, INSTANCES = (
    f"roleManagement/directory/role{kind}ScheduleInstances"
    for kind in ("Eligibility", "Assignment")
)


def make_tenant(**options: Any) -> Tenant:
    return Tenant(seed=8, users=50, groups=6, kinds=ALL, options=TenantOptions(**options))


def by_id(objects: Any) -> dict[str, dict[str, Any]]:
    return {one["id"]: dict(one) for one in objects}


@pytest.mark.parametrize(
    ("resource", "path"),
    [
        ("service_principals", "servicePrincipals"),
        ("applications", "applications"),
        ("oauth2_permission_grants", "oauth2PermissionGrants"),
        ("administrative_units", "directory/administrativeUnits"),
        ("administrative_units", "administrativeUnits"),
        ("subscribed_skus", "subscribedSkus"),
        ("role_eligibility_schedule_instances", ELIGIBILITIES),
        ("role_assignment_schedule_instances", INSTANCES),
    ],
)
def test_a_list_and_reads_by_id_give_what_is_live(
    serve_tenant: ServeTenant, resource: str, path: str
) -> None:
    tenant = make_tenant(list_page_size=5, role_page_size=3)
    client = serve_tenant(tenant)
    for _ in range(2):
        live = by_id(tenant.iterate_live(resource))
        assert by_id(client.walk(path).objects) == live
        assert live
        assert client.get(f"{path}/{min(live)}").raise_for_status().json()["id"] == min(live)
        selected = client.walk(f"{path}?$select=id").objects
        assert {tuple(one) for one in selected} == {("id",)}
        tenant.mutate(150)
    shelf, live = tenant.store(resource), by_id(tenant.iterate_live(resource))
    gone = next((one for one in map(shelf.id_at, range(shelf.total)) if one not in live), "nobody")
    assert client.get(f"{path}/{gone}").status_code == 404


@pytest.mark.parametrize(
    ("resource", "target"),
    [
        ("service_principals", "servicePrincipals/delta"),
        ("applications", "applications/delta"),
        ("oauth2_permission_grants", "oauth2PermissionGrants/delta"),
        ("administrative_units", "directory/administrativeUnits/delta"),
    ],
)
def test_a_fold_of_delta_rounds_is_what_is_live(
    serve_tenant: ServeTenant, resource: str, target: str
) -> None:
    tenant = make_tenant(delta_page_size=6)
    client, rng, found = serve_tenant(tenant), Random(2), dict[str, dict[str, Any]]()
    for _ in range(4):
        walk = client.walk(target)
        for one in walk.objects:
            one.pop("members@delta", None)
            if "@removed" in one:
                found.pop(one["id"], None)
            else:
                found.setdefault(one["id"], {}).update(one)
        live = by_id(tenant.iterate_live(resource))
        assert {key: {n: one.get(n) for n in live[key]} for key, one in found.items()} == live
        tenant.mutate(150, rng)
        target = walk.delta_link or ""


def test_hundreds_of_service_principals_are_microsofts(
    serve_tenant: ServeTenant,
) -> None:
    kinds = KindCounts(service_principals=400)
    one, two = (Tenant(seed=seed, users=0, groups=0, kinds=kinds) for seed in (1, 2))
    found = [
        {
            principal["appId"]
            for principal in serve_tenant(tenant).walk("servicePrincipals?$top=999").objects
            if principal["appOwnerOrganizationId"] == "f8cdef31-a31e-4b4a-93e4-5f571e91255a"
        }
        for tenant in (one, two)
    ]
    assert found[0] == found[1]
    assert len(found[0]) > 250
    assert GRAPH in found[0]


@pytest.mark.parametrize(
    "target", ["servicePrincipals", "servicePrincipals/delta", "applications", "applications/delta"]
)
def test_credentials_carry_what_must_not_be_kept(serve_tenant: ServeTenant, target: str) -> None:
    """So that a consumer that keeps it is found out."""
    tenant = make_tenant()
    answer = json.dumps(serve_tenant(tenant).walk(target).objects)
    assert all(mark in answer for mark in SECRET_MARKS)


def test_an_application_of_the_customer_has_a_service_principal() -> None:
    tenant = make_tenant()
    owners = {one["appId"]: one for one in tenant.iterate_live("service_principals")}
    registered = [one["appId"] for one in tenant.iterate_live("applications")]
    assert {owners[one]["appOwnerOrganizationId"] for one in registered} == {tenant.tenant_id}


def test_the_roles_of_one_api_are_listed_by_its_application(
    serve_tenant: ServeTenant,
) -> None:
    tenant = make_tenant()
    client = serve_tenant(tenant)
    graph = tenant.service_principals.id_at(0)
    held = {
        one["id"]: one
        for one in tenant.iterate_live("app_role_assignments")
        if one["resourceId"] == graph
    }
    assert len(held) > 5
    assert by_id(client.walk(f"{GRAPH_PART}?$top=999").objects) == held
    assert by_id(client.walk(f"{GRAPH_PART.replace(chr(39), '%27')}?$top=2").objects) == held
    assert by_id(client.walk(f"servicePrincipals/{graph}/appRoleAssignedTo?$top=4").objects) == held
    (answer,) = client.send_batch(f"/{GRAPH_PART}?$top=999")
    assert by_id(answer["body"]["value"]) == held
    one = min(held)
    assert client.get(f"servicePrincipals/{graph}/appRoleAssignedTo/{one}").json()["id"] == one
    assert {held[key]["appRoleId"] for key in held} <= set(GRAPH_ROLES.values())
    tenant.delete_object("app_role_assignments", one)
    assert client.get(f"servicePrincipals/{graph}/appRoleAssignedTo/{one}").status_code == 404
    principal = held[max(held)]["principalId"]
    roles = client.walk(f"servicePrincipals/{principal}/appRoleAssignments").objects
    assert max(held) in by_id(roles)


def test_managed_identities_are_missing_without_a_top(
    serve_tenant: ServeTenant,
) -> None:
    tenant = make_tenant()
    client = serve_tenant(tenant)
    identity = tenant.create_object("service_principals", servicePrincipalType="ManagedIdentity")
    graph = tenant.service_principals.id_at(0)
    role = GRAPH_ROLES["Mail.Read"]
    made = tenant.assign_app_role(graph, identity, role, "service_principals")
    assert made in by_id(client.walk(f"{GRAPH_PART}?$top=5").objects)
    assert made not in by_id(client.walk(GRAPH_PART).objects)


def test_the_roles_of_a_service_principal_end_with_it(
    serve_tenant: ServeTenant,
) -> None:
    tenant = make_tenant()
    client = serve_tenant(tenant)
    one = next(tenant.iterate_live("oauth2_permission_grants"))["clientId"]
    link = client.walk("oauth2PermissionGrants/delta").delta_link or ""
    tenant.delete_service_principal(one)
    told = client.walk(link).objects
    assert told
    assert all(grant["@removed"] == {"reason": "deleted"} for grant in told)
    assert client.get(f"servicePrincipals/{one}/appRoleAssignedTo").status_code == 404


def test_activations_come_and_go_with_the_time_of_the_tenant(
    serve_tenant: ServeTenant,
) -> None:
    tenant = make_tenant()
    client = serve_tenant(tenant)
    role = tenant.create_role_definition(displayName="Helper")
    user = tenant.create_user()
    eligible = tenant.make_eligible(role, user, seconds=86_400)
    assert (
        client.walk(f"{ELIGIBILITIES}?$filter=principalId eq '{user}'").objects[0]["id"] == eligible
    )
    held = tenant.activate_role(eligible, seconds=3600)
    (instance,) = client.walk(f"{INSTANCES}?$filter=roleDefinitionId eq '{role}'").objects
    assert instance["assignmentType"] == "Activated"
    assert instance["endDateTime"] > instance["startDateTime"]
    assignments = "roleManagement/directory/roleAssignments"
    assert held in by_id(client.walk(assignments).objects)
    tenant.advance(3601)
    assert held not in by_id(client.walk(INSTANCES).objects)
    assert held not in by_id(client.walk(assignments).objects)
    assert eligible in by_id(client.walk(ELIGIBILITIES).objects)
    tenant.advance(86_400)
    assert eligible not in by_id(client.walk(ELIGIBILITIES).objects)


def test_each_role_assignment_is_an_instance_of_a_schedule(
    serve_tenant: ServeTenant,
) -> None:
    tenant = make_tenant()
    client = serve_tenant(tenant)
    kinds = set[str]()
    for _ in range(8):
        assignments = by_id(client.walk("roleManagement/directory/roleAssignments").objects)
        instances = by_id(client.walk(INSTANCES).objects)
        assert instances.keys() == assignments.keys()
        kinds |= {one["assignmentType"] for one in instances.values()}
        tenant.mutate(80)
    assert kinds == {"Assigned", "Activated"}


@pytest.mark.parametrize("target", [f"{ELIGIBILITIES}?$top=5", "subscribedSkus?$top=5"])
def test_what_takes_no_page_size_refuses_one(serve_tenant: ServeTenant, target: str) -> None:
    assert serve_tenant(make_tenant()).get(target).status_code == 400


@pytest.mark.parametrize(
    ("licences", "target", "answer"),
    [
        (set[str](), ELIGIBILITIES, (400, "AadPremiumLicenseRequired")),
        ({"p1"}, INSTANCES, (400, "AadPremiumLicenseRequired")),
        ({"p2"}, INSTANCES, (200, None)),
        ({"p1"}, "users?$select=id,signInActivity", (200, None)),
        (set[str](), "users?$select=id", (200, None)),
        (
            set[str](),
            "users?$select=id,signInActivity",
            (403, "Authentication_RequestFromNonPremiumTenantOrB2CTenant"),
        ),
    ],
)
def test_a_tenant_without_a_licence_is_told_so(
    serve_tenant: ServeTenant,
    licences: set[str],
    target: str,
    answer: tuple[int, str | None],
) -> None:
    response = serve_tenant(make_tenant(licences=licences)).get(target)
    assert (response.status_code, response.json().get("error", {}).get("code")) == answer


@pytest.mark.parametrize(
    ("resource", "target"),
    [
        ("group_owners", "groups/{group}/owners"),
        ("service_principals", "servicePrincipals"),
        ("service_principals", "servicePrincipals/delta"),
        ("app_role_assignments", f"{GRAPH_PART}?$top=999"),
        ("oauth2_permission_grants", "oauth2PermissionGrants"),
        ("administrative_units", "administrativeUnits/delta"),
        ("administrative_unit_members", "administrativeUnits/{unit}/members"),
        ("subscribed_skus", "subscribedSkus"),
        ("role_eligibility_schedule_instances", ELIGIBILITIES),
        ("role_assignment_schedule_instances", INSTANCES),
        ("sign_in_activity", "users?$select=id,signInActivity"),
        ("managers", "users?$select=id&$expand=manager($select=id)"),
        ("managers", "users/delta?$select=id,manager"),
    ],
)
def test_a_permission_that_is_missing_is_refused(
    serve_tenant: ServeTenant, resource: str, target: str
) -> None:
    tenant = make_tenant()
    client = serve_tenant(tenant)
    path = target.format(
        group=tenant.groups.id_at(0), unit=next(tenant.iterate_live("administrative_units"))["id"]
    )
    assert client.get(path).status_code == 200
    tenant.options.refused_resources = {resource}
    assert client.get(path).status_code == 403
    tenant.options.refused_resources = set()
    tenant.options.ungranted_resources = {resource}
    answer = client.get(path)
    assert (answer.status_code, "PermissionScopeNotGranted" in answer.text) == (403, True)


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("groups.owners", "groups/delta?$select=id,owners"),
        ("users.manager", "users/delta?$select=id,manager"),
        ("users.signInActivity", "users?$select=id,signInActivity"),
        ("service_principals.tags", "servicePrincipals?$select=id,tags"),
    ],
)
def test_what_a_tenant_does_not_know_is_named(
    serve_tenant: ServeTenant, name: str, target: str
) -> None:
    tenant = make_tenant()
    client = serve_tenant(tenant)
    link = client.walk(target).delta_link
    tenant.options.unknown_properties = {name}
    for asked in (target, link) if link else (target,):
        answer = client.get(asked)
        assert (answer.status_code, name.split(".")[1] in answer.text) == (400, True)


def test_groups_and_applications_hold_roles(serve_tenant: ServeTenant) -> None:
    tenant = make_tenant()
    holders = {one["principalId"] for one in tenant.iterate_live("role_assignments")}
    assert {tenant.groups.id_at(0), tenant.service_principals.id_at(0)} <= holders


def is_never(activity: dict[str, str]) -> bool:
    """Graph writes year 1 for never. A row would say nothing."""
    moments = (value for name, value in activity.items() if name.endswith("DateTime"))
    return all(moment.startswith("0001-") for moment in moments)


def test_sign_ins_are_shown_in_lists_and_single_users_only(
    serve_tenant: ServeTenant,
) -> None:
    tenant = make_tenant()
    client = serve_tenant(tenant)
    target = "users?$select=id,signInActivity&$top=9"
    for _ in range(2):
        listed = client.walk(target).objects
        told = {one["id"]: one["signInActivity"] for one in listed if "signInActivity" in one}
        shown = {key: one for key, one in told.items() if not is_never(one)}
        live = {one["id"]: one["signInActivity"] for one in tenant.iterate_live("sign_in_activity")}
        assert shown == live
        assert 0 < len(shown) < len(listed)
        tenant.mutate(80)
    live = {one["id"]: one["signInActivity"] for one in tenant.iterate_live("sign_in_activity")}
    one = min(live)
    single = client.get(f"users/{one}?$select=id,signInActivity").json()
    assert single["signInActivity"] == live[one]
    assert client.get("users?$select=id,signInActivity&$top=999").status_code == 400
    refused = client.get("users/delta?$select=id,signInActivity")
    assert (refused.status_code, "signInActivity" in refused.text) == (400, True)


def declare(name: str, *properties: Any) -> Resource:
    return Resource(
        name=name,
        meaning="an example",
        permission="Example.Read.All",
        source=Source(path=f"/{name}", intervals=("delta_seconds",)),
        event_noun=name,
        properties=properties,
    )


def test_rows_of_the_truth_have_the_columns_that_are_derived() -> None:
    tenant = make_tenant()
    sku = next(tenant.iterate_live("subscribed_skus"))
    declared = declare(
        "subscribed_skus",
        text("id", "id", key=True),
        integer("consumed_units", "in use"),
        integer("prepaid_enabled", "bought", derived=True, derived_from=()),
    )
    assert build_declared_row(declared, sku) == {
        "id": sku["id"],
        "consumed_units": sku["consumedUnits"],
        "prepaid_enabled": sku["prepaidUnits"]["enabled"],
    }
    declared = declare(
        "oauth2_permission_grants",
        text("id", "id", key=True),
        texts("scopes", "permissions", unordered=True, derived=True, derived_from=()),
    )
    row = build_declared_row(declared, {"id": "1", "scope": " User.Read Mail.Read"})
    assert row == {"id": "1", "scopes": ["Mail.Read", "User.Read"]}
    declared = declare(
        "sign_in_activity",
        guid("id", "id", key=True),
        timestamp("last_sign_in_date_time", "last", derived=True, derived_from=()),
    )
    for user in tenant.iterate_live("sign_in_activity"):
        row = build_declared_row(declared, user)
        never = user["signInActivity"]["lastSignInDateTime"].startswith("0001")
        assert (row["last_sign_in_date_time"] is None) is never
        assert has_row("sign_in_activity", user) or never


def test_a_tenant_has_nothing_of_it_unless_it_is_asked_for(
    serve_tenant: ServeTenant,
) -> None:
    tenant = Tenant(seed=8, users=50, groups=6)
    tenant.mutate(300)
    client = serve_tenant(tenant)
    for fields in KINDS:
        assert list(tenant.iterate_live(fields.resource)) == []
        if "{" not in fields.path:
            assert client.walk(fields.path).objects == []
    assert list(tenant.iterate_live("sign_in_activity")) == []
    assert tenant.truth().keys() == RESOURCES.keys()


def test_the_same_calls_make_the_same_tenant() -> None:
    one, two = make_tenant(), make_tenant()
    for tenant in (one, two):
        tenant.mutate(200)
        tenant.advance(3600)
    for fields in KINDS:
        assert list(one.iterate_live(fields.resource)) == list(two.iterate_live(fields.resource))
    for resource in (*one.edges, "sign_in_activity"):
        assert list(one.iterate_live(resource)) == list(two.iterate_live(resource))


def test_numbers_that_fit_a_size_have_some_of_everything() -> None:
    for users in (1, 60, 20_000):
        tenant = Tenant(seed=1, users=users, groups=5, kinds=KindCounts.for_users(users))
        assert all(shelf.total for shelf in tenant.further.values())
