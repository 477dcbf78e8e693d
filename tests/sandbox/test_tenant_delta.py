"""Delta rounds: folded into rows they give exactly the truth, whatever happens meanwhile."""

from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox.tenant import Client, Knobs, Nango, Tenant, Truth, row_of, serve, truth_of
from sandbox.tenant.fields import GROUPS, USERS

USERS_DELTA = f"users/delta?$select={','.join(USERS.names)}"
GROUPS_DELTA = f"groups/delta?$select={','.join(GROUPS.names)},members"


class Fold:
    """A mirror reduced to what delta rounds say: absent leaves alone, null clears."""

    def __init__(self) -> None:
        self.users: dict[str, dict[str, Any]] = {}
        self.groups: dict[str, dict[str, Any]] = {}
        self.edges: dict[tuple[str, str], str] = {}

    def add_users(self, objects: list[dict[str, Any]]) -> None:
        for one in objects:
            if "@removed" in one:
                self.users.pop(one["id"], None)
                self._forget(one["id"])
            else:
                self.users.setdefault(one["id"], {}).update(one)

    def add_groups(self, objects: list[dict[str, Any]]) -> None:
        for one in objects:
            if "@removed" in one:
                self.groups.pop(one["id"], None)
                self._forget(one["id"])
                continue
            members = one.pop("members@delta", [])
            self.groups.setdefault(one["id"], {}).update(one)
            for member in members:
                edge = one["id"], member["id"]
                if "@removed" in member:
                    self.edges.pop(edge, None)
                else:
                    self.edges[edge] = member["@odata.type"]

    def _forget(self, object_id: str) -> None:
        for edge in [edge for edge in self.edges if object_id in edge]:
            del self.edges[edge]

    def truth(self) -> dict[str, Truth]:
        edges = [
            {"groupId": group, "id": member, "@odata.type": kind}
            for (group, member), kind in self.edges.items()
        ]
        return {
            "users": truth_of(row_of("users", one) for one in self.users.values()),
            "groups": truth_of(row_of("groups", one) for one in self.groups.values()),
            "group_members": truth_of(row_of("group_members", one) for one in edges),
        }


def expected(tenant: Tenant) -> dict[str, Truth]:
    truth = tenant.truth()
    return {name: truth[name] for name in ("users", "groups", "group_members")}


@pytest.fixture
def nango() -> Nango:
    return Nango()


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


def test_a_first_round_enumerates_everything(client: Client, tenant: Tenant) -> None:
    fold = Fold()
    users, groups = client.walk(USERS_DELTA), client.walk(GROUPS_DELTA)
    fold.add_users(users.objects)
    fold.add_groups(groups.objects)
    assert users.pages == 2
    assert fold.truth() == expected(tenant)


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
    tenant.knobs.member_slice = 100
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
    tenant.knobs.removals_on_delete = True
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
    tenant.knobs.expired_code, tenant.knobs.expired_location = code, located
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


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    seed=st.integers(0, 2**32),
    users=st.integers(0, 40),
    groups=st.integers(0, 6),
    knobs=st.builds(
        Knobs,
        list_page=st.integers(1, 30),
        delta_page=st.integers(1, 30),
        member_slice=st.integers(1, 12),
        empty_page_every=st.sampled_from([0, 2, 3]),
        repeat_every=st.sampled_from([0, 1, 2]),
        tombstones_first=st.booleans(),
    ),
    rounds=st.lists(st.integers(0, 25), max_size=4),
    listed=st.booleans(),
)
def test_a_fold_of_rounds_is_the_truth(
    shared: tuple[Nango, Client],
    *,
    seed: int,
    users: int,
    groups: int,
    knobs: Knobs,
    rounds: list[int],
    listed: bool,
) -> None:
    """While the directory changes between any two pages."""
    nango, client = shared
    tenant = Tenant(
        seed=seed, users=users, groups=groups, big_groups=1, big_group_members=30, knobs=knobs
    )
    nango.connections[0].tenant = tenant
    rng, fold = Random(seed), Fold()

    def walk(target: str, busy: int) -> tuple[list[dict[str, Any]], str]:
        found: list[dict[str, Any]] = []
        link = ""
        for number, page in enumerate(client.pages(target)):
            found += page["value"]
            link = page.get("@odata.deltaLink", "")
            if number < busy:
                tenant.mutate(2, rng)
        return found, link

    if listed:
        link = link_of(client, USERS_DELTA + "&$deltatoken=latest")
        fold.add_users(walk(f"users?$select={','.join(USERS.names)}", 5)[0])
    else:
        objects, link = walk(USERS_DELTA, 5)
        fold.add_users(objects)
    objects, group_link = walk(GROUPS_DELTA, 5)
    fold.add_groups(objects)
    for changes in [*rounds, 0]:
        tenant.mutate(changes, rng)
        busy = 3 if changes else 0
        objects, link = walk(link, busy)
        fold.add_users(objects)
        objects, group_link = walk(group_link, busy)
        fold.add_groups(objects)
    # A user's tombstone may have come before a page of edges that was older than it.
    live = {m["id"] for m in tenant.live("users")} | {g["id"] for g in tenant.live("groups")}
    gone = {one for edge in fold.edges for one in edge if one not in live}
    for object_id in gone & set(_ever(tenant)):
        fold._forget(object_id)
    assert fold.truth() == expected(tenant)


def _ever(tenant: Tenant) -> Iterator[str]:
    yield from (tenant.users.id_at(i) for i in range(tenant.users.total))
    yield from (tenant.groups.id_at(i) for i in range(tenant.groups.total))
