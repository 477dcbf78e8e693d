"""Owners, members of administrative units and managers: lists, deltas, and the truth of them."""

from random import Random
from typing import Any

import pytest

from sandbox.tenant import KindCounts, Tenant, TenantOptions
from tests.support.clients import ServeTenant

KINDS = KindCounts(
    owners=2, managers=True, service_principals=9, administrative_units=4, unit_members=6
)
RELATIONS = [
    ("group_owners", "groups/delta?$select=id,members,owners", "owners@delta"),
    (
        "administrative_unit_members",
        "directory/administrativeUnits/delta?$select=id,members",
        "members@delta",
    ),
    (
        "administrative_unit_members",
        "administrativeUnits/delta?$select=id,displayName,members",
        "members@delta",
    ),
    ("managers", "users/delta?$select=id,manager", "manager@delta"),
]


def make_tenant(**options: Any) -> Tenant:
    return Tenant(seed=4, users=60, groups=9, kinds=KINDS, options=TenantOptions(**options))


def read_truth(tenant: Tenant, resource: str) -> set[tuple[str, str]]:
    edges = tenant.iterate_live(resource)
    if resource == "managers":
        return {(one["id"], one["manager"]["id"]) for one in edges}
    name = "groupId" if resource == "group_owners" else "unitId"
    return {(one[name], one["id"]) for one in edges}


def fold(edges: set[tuple[str, str]], objects: list[dict[str, Any]], name: str) -> None:
    for one in objects:
        if "@removed" in one:
            edges -= {edge for edge in edges if one["id"] in edge}
        for end in one.get(name, []):
            edge = one["id"], end["id"]
            (edges.discard if "@removed" in end else edges.add)(edge)


@pytest.mark.parametrize(("resource", "target", "name"), RELATIONS)
@pytest.mark.parametrize("slice_size", [1, 500])
def test_a_fold_of_rounds_is_the_truth(
    serve_tenant: ServeTenant, resource: str, target: str, name: str, slice_size: int
) -> None:
    tenant = make_tenant(members_per_entry=slice_size, delta_page_size=7, removals_on_delete=True)
    client, rng, found = serve_tenant(tenant), Random(3), set[tuple[str, str]]()
    for _ in range(5):
        objects: list[dict[str, Any]] = []
        for page in client.iterate_pages(target):
            objects += page["value"]
            target = page.get("@odata.deltaLink", "")
        fold(found, objects, name)
        assert found == read_truth(tenant, resource)
        tenant.mutate(40, rng)


def test_edges_arrive_only_if_their_relation_is_selected(
    serve_tenant: ServeTenant,
) -> None:
    tenant = make_tenant()
    client = serve_tenant(tenant)
    for target, told in (
        ("groups/delta", {"members@delta"}),
        ("groups/delta?$select=id,owners", {"owners@delta"}),
        ("groups/delta?$select=id,members,owners", {"members@delta", "owners@delta"}),
        ("groups/delta?$select=id", set[str]()),
        ("users/delta?$select=id,displayName", set[str]()),
    ):
        walk = client.walk(target)
        assert {key for one in walk.objects for key in one if key.endswith("@delta")} == told
    link = client.walk("groups/delta?$select=id,members").delta_link or ""
    tenant.add_owner(tenant.groups.id_at(0), tenant.create_user())
    assert client.walk(link).objects == []


@pytest.mark.parametrize(
    ("resource", "target"),
    [
        ("group_owners", "groups/{id}/owners"),
        ("administrative_unit_members", "directory/administrativeUnits/{id}/members"),
        ("administrative_unit_members", "administrativeUnits/{id}/members?$top=1"),
    ],
)
def test_a_list_of_one_parent_gives_its_live_edges(
    serve_tenant: ServeTenant, resource: str, target: str
) -> None:
    tenant = make_tenant()
    tenant.mutate(60)
    client, found = serve_tenant(tenant), set[tuple[str, str]]()
    shelf = tenant.edges[resource].parents
    for index in shelf.iterate_live():
        parent = shelf.id_at(index)
        found |= {(parent, one["id"]) for one in client.walk(target.format(id=parent)).objects}
    assert found == read_truth(tenant, resource)
    assert found


def test_users_are_listed_with_their_manager(serve_tenant: ServeTenant) -> None:
    tenant = make_tenant()
    boss = tenant.users.id_at(0)
    tenant.delete_user(boss)
    client = serve_tenant(tenant)
    listed = client.walk("users?$select=id&$expand=manager($select=id)&$top=7").objects
    assert {tuple(one) for one in listed} == {("id",), ("id", "manager")}
    managers = {(one["id"], one["manager"]["id"]) for one in listed if "manager" in one}
    assert managers == read_truth(tenant, "managers")
    assert boss not in {manager for _, manager in managers}
    user, manager = min(managers)
    assert client.get(f"users/{user}/manager?$select=id").json()["id"] == manager
    tenant.set_manager(user, None)
    assert client.get(f"users/{user}/manager").status_code == 404


def test_a_delta_may_be_silent_about_another_manager(
    serve_tenant: ServeTenant,
) -> None:
    tenant = make_tenant(manager_delta_silent=1.0)
    client = serve_tenant(tenant)
    link = client.walk("users/delta?$select=id,manager").delta_link or ""
    user, manager = tenant.users.id_at(5), tenant.users.id_at(9)
    tenant.set_manager(user, manager)
    assert client.walk(link).objects == []
    assert (user, manager) in read_truth(tenant, "managers")


def test_hidden_units_show_no_members(serve_tenant: ServeTenant) -> None:
    tenant = make_tenant()
    unit = next(tenant.iterate_live("administrative_units"))["id"]
    user = tenant.create_user()
    tenant.add_edge("administrative_unit_members", unit, user)
    tenant.update_object("administrative_units", unit, visibility="HiddenMembership")
    client, target = serve_tenant(tenant), f"administrativeUnits/{unit}/members"
    assert user in {one["id"] for one in client.walk(target).objects}
    tenant.options.hide_hidden_members = True
    assert client.walk(target).objects == []
    link = client.walk("administrativeUnits/delta?$select=id,members").delta_link or ""
    tenant.update_object("administrative_units", unit, visibility=None)
    (told,) = client.walk(link).objects
    assert user in {one["id"] for one in told["members@delta"]}


def test_a_deleted_service_principal_leaves_its_groups(
    serve_tenant: ServeTenant,
) -> None:
    tenant = make_tenant()
    client, group = serve_tenant(tenant), tenant.groups.id_at(1)
    principal = tenant.service_principals.id_at(3)
    tenant.add_owner(group, principal, "servicePrincipal")
    link = client.walk("groups/delta?$select=id,owners").delta_link or ""
    tenant.delete_service_principal(principal)
    told = next(one for one in client.walk(link).objects if one["id"] == group)
    assert {"reason": "deleted"} in [
        one.get("@removed") for one in told["owners@delta"] if one["id"] == principal
    ]
    assert principal not in {owner.id for owner in tenant.owners_of(group)}


def test_a_tenant_has_no_such_edges_unless_they_are_asked_for(
    serve_tenant: ServeTenant,
) -> None:
    tenant = Tenant(seed=4, users=60, groups=9)
    client = serve_tenant(tenant)
    tenant.mutate(200)
    for resource, target, name in RELATIONS:
        assert list(tenant.iterate_live(resource)) == []
        assert not [one for one in client.walk(target).objects if name in one]
