"""Plain lists, reads by id and tokens, over real HTTP."""

import json
from collections.abc import Iterator

import pytest

from sandbox.tenant import Client, Nango, Tenant, TenantOptions, build_row, compute_checksum, serve
from sandbox.tenant.directory.fields import GROUPS, ROLE_ASSIGNMENTS, ROLE_DEFINITIONS, SITES, USERS

USER_SELECT = ",".join(USERS.generated)


@pytest.fixture
def tenant() -> Tenant:
    return Tenant(seed=7, users=250, groups=6, big_groups=1, big_group_members=230, sites=30)


@pytest.fixture
def client(tenant: Tenant) -> Iterator[Client]:
    nango = Nango()
    nango.add_connection("c1", tenant)
    with serve(nango) as server, Client(server, "c1") as client:
        yield client


@pytest.mark.parametrize(
    ("resource", "target"),
    [
        ("users", f"users?$select={USER_SELECT}"),
        ("users", f"users?$top=999&$select={USER_SELECT}"),
        ("groups", f"groups?$top=2&$select={','.join(GROUPS.generated)}"),
        ("sites", "sites/getAllSites?$top=7"),
        ("sites", f"sites/getAllSites?$select={','.join(SITES.generated)}"),
        ("role_definitions", "roleManagement/directory/roleDefinitions"),
        (
            "role_definitions",
            (
                f"roleManagement/directory/roleDefinitions?$top=5&$select="
                f"{','.join(ROLE_DEFINITIONS.generated)}"
            ),
        ),
        ("role_assignments", "roleManagement/directory/roleAssignments"),
        (
            "role_assignments",
            (
                f"roleManagement/directory/roleAssignments?$top=3&$select="
                f"{','.join(ROLE_ASSIGNMENTS.generated)}"
            ),
        ),
    ],
)
def test_a_list_gives_exactly_the_truth(
    client: Client, tenant: Tenant, resource: str, target: str
) -> None:
    """Whatever the page size, before and after changes."""
    for _ in range(2):
        objects = client.walk(target).objects
        truth = tenant.truth()[resource]
        assert len(objects) == truth.count > 0
        assert compute_checksum(build_row(resource, one) for one in objects) == truth.checksum
        tenant.mutate(80)


def test_pages_have_the_default_size_the_asked_one_and_no_more_than_999(client: Client) -> None:
    sizes = [len(page["value"]) for page in client.iterate_pages("users")]
    assert sizes == [100, 100, 50]
    assert [len(page["value"]) for page in client.iterate_pages("users?$top=249")] == [249, 1]
    refused = client.get("users?$top=1000")
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "Request_BadRequest"


def test_select_is_honoured_and_shows_null(client: Client, tenant: Tenant) -> None:
    user_id = tenant.create_user(mobilePhone=None)
    found = client.get(f"users/{user_id}?$select=id,mobilePhone,faxNumber").json()
    found.pop("@odata.context")
    assert found == {"id": user_id, "mobilePhone": None, "faxNumber": None}
    default = client.get("users?$top=1").json()["value"][0]
    assert set(default) == set(USERS.default_names)


def test_properties_that_lists_refuse_answer_501_and_unknown_ones_400(client: Client) -> None:
    assert client.get("users?$select=id,aboutMe").status_code == 501
    assert client.get("users?$select=id,shoeSize").status_code == 400
    assert client.get("users?$orderby=displayName").json()["error"]["code"] == (
        "Request_UnsupportedQuery"
    )


def test_members_page_and_are_of_every_type(client: Client, tenant: Tenant) -> None:
    group_id = tenant.groups.id_at(0)
    walked = client.walk(f"groups/{group_id}/members?$top=99")
    assert walked.pages == 3
    assert {m["@odata.type"].removeprefix("#microsoft.graph.") for m in walked.objects} == {
        "user",
        "group",
        "device",
        "servicePrincipal",
        "orgContact",
    }
    assert {m["id"] for m in walked.objects} == {m.id for m in tenant.members_of(group_id)}


def test_a_deleted_user_is_not_listed_as_a_member(client: Client, tenant: Tenant) -> None:
    group_id = tenant.groups.id_at(0)
    user_id = next(m.id for m in tenant.members_of(group_id) if m.type == "user")
    target = f"groups/{group_id}/members?$select=id&$top=999"
    tenant.delete_user(user_id)
    assert user_id not in {m["id"] for m in client.walk(target).objects}
    assert client.get(f"users/{user_id}").status_code == 404
    tenant.restore_user(user_id)
    assert user_id in {m["id"] for m in client.walk(target).objects}
    groups = client.walk(f"users/{user_id}/memberOf?$select=id&$top=1").objects
    assert group_id in {g["id"] for g in groups}


def test_member_of_is_the_inverse_of_members(client: Client, tenant: Tenant) -> None:
    edges = {(e["groupId"], e["id"]) for e in tenant.iterate_live("group_members")}
    for index in range(5):
        user_id = tenant.users.id_at(index)
        groups = client.walk(f"users/{user_id}/memberOf?$select=id").objects
        assert {g["id"] for g in groups} == {g for g, m in edges if m == user_id}


def test_reads_by_id_find_what_the_lists_name(client: Client, tenant: Tenant) -> None:
    roles = "roleManagement/directory"
    for path in (
        "users",
        "groups",
        "sites/getAllSites",
        f"{roles}/roleDefinitions",
        f"{roles}/roleAssignments",
    ):
        one = client.get(f"{path}?$top=1").json()["value"][0]
        found = client.get(f"{path.removesuffix('/getAllSites')}/{one['id']}").json()
        found.pop("@odata.context")
        assert found == one
    site_id = tenant.sites.id_at(3)
    assert client.get(f"sites/{site_id}").json()["id"].lower().endswith(site_id)
    assert client.get("groups/none").json()["error"]["code"] == "Request_ResourceNotFound"
    assert client.get("sites/none").json()["error"]["code"] == "itemNotFound"


def test_sites_are_as_uneven_as_sharepoints(client: Client) -> None:
    sites = client.walk("sites/getAllSites").objects
    assert any(site["id"] != site["id"].lower() for site in sites)
    assert {"hostName", "hostname"} <= {key for s in sites for key in s["siteCollection"]}
    assert any("displayName" not in s for s in sites)
    assert any("root" in s for s in sites)
    page = client.get("sites/getAllSites?$top=5").json()
    assert "/sites/oneDrive.getAllSites?" in page["@odata.nextLink"]
    found = client.walk("sites?search=*").objects
    assert 0 < len(found) < len(sites)


def test_get_all_sites_can_be_refused(client: Client, tenant: Tenant) -> None:
    tenant.options.refuse_get_all_sites = True
    assert client.get("sites/getAllSites").json()["error"]["code"] == "accessDenied"
    assert client.get("sites?search=*").status_code == 200


def test_role_assignments_may_demand_a_filter(client: Client, tenant: Tenant) -> None:
    tenant.options.requires_role_filter = True
    path = "roleManagement/directory/roleAssignments"
    assert client.get(path).json()["error"]["code"] == "Request_BadRequest"
    found = [
        assignment
        for role in client.walk("roleManagement/directory/roleDefinitions").objects
        for assignment in client.walk(
            f"{path}?$filter=roleDefinitionId%20eq%20%27{role['id']}%27&$top=1"
        ).objects
    ]
    rows = [build_row("role_assignments", one) for one in found]
    assert compute_checksum(rows) == tenant.truth()["role_assignments"].checksum


def test_missing_permissions_are_refused(client: Client, tenant: Tenant) -> None:
    tenant.options.refused_resources.add("groups")
    refused = client.get("groups/delta")
    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "Authorization_RequestDenied"
    assert client.get("users").status_code == 200


def test_a_licence_may_be_lacking(client: Client, tenant: Tenant) -> None:
    """Of lists, deltas and single objects alike."""
    one = tenant.groups.id_at(0)
    tenant.options.unlicensed_resources.add("groups")
    for path in ("groups", "groups/delta", f"groups/{one}"):
        refused = client.get(path)
        assert refused.status_code == 400
        assert refused.json()["error"]["code"] == "AadPremiumLicenseRequired"
    assert client.get("users").status_code == 200


def test_a_permission_may_be_named_in_a_document_within_the_message(
    client: Client, tenant: Tenant
) -> None:
    tenant.options.ungranted_resources.add("role_assignments")
    refused = client.get("roleManagement/directory/roleAssignments")
    assert refused.status_code == 403
    error = refused.json()["error"]
    assert error["code"] == "UnknownError"
    within = json.loads(error["message"])
    assert within["errorCode"] == "PermissionScopeNotGranted"
    assert within["message"] == (
        "Authorization failed due to missing permission scope "
        "RoleManagement.Read.Directory,RoleManagement.ReadWrite.Directory."
    )


def test_the_organization_names_the_tenant(client: Client, tenant: Tenant) -> None:
    (found,) = client.get("organization").json()["value"]
    assert (found["id"], found["displayName"]) == (tenant.tenant_id, "Contoso")


def test_links_must_come_back_byte_for_byte(client: Client) -> None:
    """A changed or re-encoded link is refused."""
    link = client.get("users?$top=5&$select=id,mail").json()["@odata.nextLink"]
    assert link.startswith("https://graph.microsoft.com/v1.0/users?$top=5&$select=id,mail&")
    assert {"%2B", ".", "-", "_"} <= {c for c in ("%2B", ".", "-", "_") if c in link}
    assert client.get(link).status_code == 200
    for changed in (
        link.replace("%2B", "+"),
        link.replace("%2B", "%252B"),
        link.replace("$skiptoken", "%24skiptoken"),
        link.replace("$top=5", "$top=6"),
        link.replace("id,mail", "id%2Cmail"),
        link.replace("/users?", "/groups?"),
        link[:-9] + "A" + link[-8:],
        link + "&x=1",
    ):
        assert client.get(changed).status_code == 400, changed


def test_page_tokens_can_expire(client: Client, tenant: Tenant) -> None:
    link = client.get("users?$top=5").json()["@odata.nextLink"]
    tenant.expire_page_tokens()
    assert client.get(link).json()["error"]["code"] == "Directory_ExpiredPageToken"


def test_empty_pages_and_repeats_lose_nothing(client: Client, tenant: Tenant) -> None:
    tenant.options.empty_page_every, tenant.options.repeat_every = 3, 2
    pages = list(client.iterate_pages("users?$select=id&$top=20"))
    assert any(not page["value"] for page in pages)
    ids = [one["id"] for page in pages for one in page["value"]]
    assert len(ids) > len(set(ids)) == 250


def test_a_creation_during_a_listing_is_told_by_the_delta_token_from_before() -> None:
    tenant = Tenant(seed=1, users=50, options=TenantOptions(list_page_size=20))
    nango = Nango()
    nango.add_connection("c1", tenant)
    with serve(nango) as server, Client(server, "c1") as client:
        link = client.get("users/delta?$deltatoken=latest").json()["@odata.deltaLink"]
        listing = client.iterate_pages("users")
        next(listing)
        created = tenant.create_user()
        gone = tenant.users.id_at(1)
        tenant.delete_user(gone)
        list(listing)
        changed = {one["id"]: one for one in client.walk(link).objects}
    assert "@removed" not in changed[created]
    assert changed[gone]["@removed"] == {"reason": "changed"}


def test_a_page_is_cut_to_what_the_tenant_gives_at_most(client: Client, tenant: Tenant) -> None:
    """A `$top` above it is not refused, as some of Graph's lists do it."""
    tenant.options.max_page_size = 40
    walk = client.walk("users?$top=999")
    assert len(walk.objects) == 250
    assert walk.pages == 7
