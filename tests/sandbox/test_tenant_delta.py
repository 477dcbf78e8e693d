"""Delta rounds: what they tell, in which shape, and when their tokens die."""

from collections.abc import Iterator

import pytest

from sandbox.tenant import Client, Nango, Tenant, serve
from sandbox.tenant.directory.fields import GROUPS, USERS

USERS_DELTA = f"users/delta?$select={','.join(USERS.generated)}"
GROUPS_DELTA = f"groups/delta?$select={','.join(GROUPS.generated)},members"


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Nango, Client]]:
    """One server for all examples; each example has a tenant of its own."""
    nango = Nango()
    nango.add_connection("c1", Tenant())
    with serve(nango) as server, Client(server, "c1") as client:
        yield nango, client


@pytest.fixture
def tenant(shared: tuple[Nango, Client]) -> Tenant:
    tenant = Tenant(seed=5, users=300, groups=12, big_groups=1, big_group_members=290)
    shared[0].connections[0].tenant = tenant
    return tenant


@pytest.fixture
def client(shared: tuple[Nango, Client]) -> Client:
    return shared[1]


def link_of(client: Client, target: str) -> str:
    link = client.walk(target).delta_link
    assert link
    return link


def test_properties_that_were_never_set_are_absent_and_cleared_ones_null(
    client: Client, tenant: Tenant
) -> None:
    link = link_of(client, "users/delta?$deltatoken=latest&$select=id,faxNumber,jobTitle,mail")
    user_id = tenant.create_user(jobTitle="Clerk", mail="a@contoso.example")
    (created,) = client.walk(link).objects
    assert created == {"id": user_id, "jobTitle": "Clerk", "mail": "a@contoso.example"}
    tenant.update_user(user_id, jobTitle=None)
    assert client.walk(link).objects[0]["jobTitle"] is None


def test_a_latest_token_starts_from_now(client: Client, tenant: Tenant) -> None:
    tenant.mutate(20)
    walked = client.walk(USERS_DELTA + "&$deltatoken=latest")
    assert (walked.objects, walked.pages) == ([], 1)
    assert walked.delta_link
    assert client.walk(walked.delta_link).objects == []


def test_only_selected_properties_are_tracked(client: Client, tenant: Tenant) -> None:
    link = link_of(client, "users/delta?$select=id,mail&$deltatoken=latest")
    user_id = tenant.users.id_at(3)
    tenant.update_user(user_id, jobTitle="Another")
    assert client.walk(link).objects == []
    tenant.update_user(user_id, mail="new@contoso.example")
    assert client.walk(link).objects == [{"id": user_id, "mail": "new@contoso.example"}]


def test_tombstones_have_both_reasons(client: Client, tenant: Tenant) -> None:
    link = link_of(client, USERS_DELTA + "&$deltatoken=latest")
    soft, hard = tenant.users.id_at(1), tenant.users.id_at(2)
    tenant.delete_user(soft)
    tenant.delete_user(hard, permanently=True)
    assert client.walk(link).objects == [
        {"id": soft, "@removed": {"reason": "changed"}},
        {"id": hard, "@removed": {"reason": "deleted"}},
    ]
    tenant.restore_user(soft)
    restored = {one["id"]: one for one in client.walk(link).objects}[soft]
    assert restored["userPrincipalName"]


def test_a_big_group_is_sliced_with_its_properties_repeated(client: Client, tenant: Tenant) -> None:
    tenant.options.members_per_entry = 100
    big = tenant.groups.id_at(0)
    parts = [one for one in client.walk(GROUPS_DELTA).objects if one["id"] == big]
    assert [len(part.pop("members@delta")) for part in parts] == [100, 100, 90]
    assert parts[0] == parts[1] == parts[2]


def test_a_group_without_members_has_no_member_key(client: Client, tenant: Tenant) -> None:
    link = link_of(client, GROUPS_DELTA + "&$deltatoken=latest")
    group_id = tenant.create_group()
    (created,) = client.walk(link).objects
    assert created["id"] == group_id
    assert "members@delta" not in created
    plain = client.walk("groups/delta?$select=id,displayName").objects
    assert all("members@delta" not in one for one in plain)
    assert any("members@delta" in one for one in client.walk("groups/delta").objects)


def test_membership_changes_are_told_alone(client: Client, tenant: Tenant) -> None:
    group_id = tenant.groups.id_at(0)
    out = tenant.members_of(group_id)[0]
    link = link_of(client, GROUPS_DELTA + "&$deltatoken=latest")
    new = tenant.create_user()
    tenant.remove_member(group_id, out.id)
    tenant.add_member(group_id, new)
    (told,) = client.walk(link).objects
    kind = "#microsoft.graph.user"
    assert told["members@delta"] == [
        {
            "@odata.type": f"#microsoft.graph.{out.type}",
            "id": out.id,
            "@removed": {"reason": "deleted"},
        },
        {"@odata.type": kind, "id": new},
    ]


def test_a_deleted_user_leaves_without_a_word_and_returns_with_one(
    client: Client, tenant: Tenant
) -> None:
    user_id = next(m.id for m in tenant.members_of(tenant.groups.id_at(0)) if m.type == "user")
    link = link_of(client, GROUPS_DELTA + "&$deltatoken=latest")
    tenant.delete_user(user_id)
    assert client.walk(link).objects == []
    tenant.restore_user(user_id)
    told = {one["id"]: one["members@delta"] for one in client.walk(link).objects}
    assert {"@odata.type": "#microsoft.graph.user", "id": user_id} in told[tenant.groups.id_at(0)]


def test_a_deletion_can_be_told_in_the_groups_too(client: Client, tenant: Tenant) -> None:
    tenant.options.removals_on_delete = True
    user_id = next(m.id for m in tenant.members_of(tenant.groups.id_at(0)) if m.type == "user")
    link = link_of(client, GROUPS_DELTA + "&$deltatoken=latest")
    tenant.delete_user(user_id)
    entries = [e for one in client.walk(link).objects for e in one["members@delta"]]
    assert {e["id"] for e in entries} == {user_id}
    assert all("@removed" in e for e in entries)


@pytest.mark.parametrize("located", [True, False])
@pytest.mark.parametrize("code", ["syncStateNotFound", "resyncRequired"])
def test_a_dead_token_answers_410(
    client: Client, tenant: Tenant, code: str, *, located: bool
) -> None:
    tenant.options.expired_delta_code, tenant.options.expired_token_location = code, located
    link = link_of(client, USERS_DELTA)
    tenant.expire_delta_tokens()
    gone = client.get(link)
    assert (gone.status_code, gone.json()["error"]["code"]) == (410, code)
    assert ("location" in gone.headers) is located
    if located:
        assert len(client.walk(gone.headers["location"]).objects) == 300


def test_another_process_expires_the_tokens(client: Client, shared: tuple[Nango, Client]) -> None:
    shared[0].connections[0].tenant = Tenant(seed=5, epoch=100)
    link = link_of(client, USERS_DELTA)
    shared[0].connections[0].tenant = Tenant(seed=5, epoch=101)
    assert client.get(link).status_code == 410


def test_a_delta_link_must_come_back_byte_for_byte(client: Client, tenant: Tenant) -> None:
    link = link_of(client, USERS_DELTA)
    assert client.get(link.replace("%2B", "+")).status_code == 400
    assert client.get(link.replace("$deltatoken", "$skiptoken")).status_code == 400
    assert client.get(link.replace("users/", "groups/")).status_code == 400
    assert client.get(link).status_code == 200
