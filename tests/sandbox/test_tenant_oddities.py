"""Tenants without delta, hidden memberships, walks that go in circles, tokens that grow old."""

import itertools
import json
import time

import httpx
import pytest

from sandbox.tenant import Client, Nango, Tenant, TenantOptions
from sandbox.tenant.directory.options import LoopKind
from sandbox.tenant.graph.call import GRAPH_ROOT


@pytest.fixture
def tenant() -> Tenant:
    return Tenant(users=60, groups=8, big_groups=1, big_group_members=40)


@pytest.fixture
def nango(tenant: Tenant) -> Nango:
    nango = Nango()
    nango.add_connection("c1", tenant)
    return nango


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


# -- tenants without delta ------------------------------------------------------------------------


def test_a_tenant_without_delta_has_lists(client: Client, tenant: Tenant) -> None:
    tenant.options = TenantOptions(no_delta=True, list_page_size=25)
    for target in ("users/delta", "groups/delta", "users/delta?$deltatoken=latest"):
        assert code_of(client.get(target)) == (400, "Request_UnsupportedQuery")
    assert len(client.walk("users").objects) == 60
    assert len(client.walk("groups").objects) == 8
    tenant.options.no_delta_status, tenant.options.no_delta_code = 403, "Forbidden"
    assert code_of(client.get("users/delta")) == (403, "Forbidden")


def test_delta_links_of_earlier_are_refused_as_well(client: Client, tenant: Tenant) -> None:
    link = client.walk("groups/delta").delta_link
    tenant.options.no_delta = True
    assert code_of(client.get(link or "")) == (400, "Request_UnsupportedQuery")


def test_members_are_paged_within_a_batch(client: Client, tenant: Tenant) -> None:
    tenant.options.member_page_size = 15
    group_id = tenant.groups.id_at(0)
    found: list[str] = []
    url = f"groups/{group_id}/members?$select=id"
    sizes = []
    while url:
        (item,) = client.send_batch(url)
        found += [member["id"] for member in item["body"]["value"]]
        sizes.append(len(item["body"]["value"]))
        url = item["body"].get("@odata.nextLink", "").removeprefix(GRAPH_ROOT)
    assert sizes == [15, 15, 10]
    assert set(found) == {member.id for member in tenant.members_of(group_id)}


# -- hidden memberships ---------------------------------------------------------------------------


@pytest.fixture
def hidden(tenant: Tenant) -> str:
    """A group with 40 members whom nobody may see."""
    group_id = tenant.groups.id_at(0)
    tenant.update_group(group_id, visibility="HiddenMembership")
    tenant.options.hide_hidden_members = True
    return group_id


def test_hidden_members_are_seen_nowhere(client: Client, tenant: Tenant, hidden: str) -> None:
    groups = {group["id"]: group for group in client.walk("groups/delta").objects}
    assert "members@delta" not in groups[hidden]
    assert any("members@delta" in group for group in groups.values())
    assert client.walk(f"groups/{hidden}/members").objects == []
    member = next(m for m in tenant.members_of(hidden) if m.type == "user")
    seen = client.walk(f"users/{member.id}/memberOf").objects
    assert hidden not in {group["id"] for group in seen}


def test_changes_of_hidden_members_are_not_told(
    client: Client, tenant: Tenant, hidden: str
) -> None:
    link = client.walk("groups/delta?$deltatoken=latest").delta_link or ""
    tenant.remove_member(hidden, tenant.members_of(hidden)[0].id)
    assert client.walk(link).objects == []


def test_a_group_that_is_no_longer_hidden_tells_of_all_its_members(
    client: Client, tenant: Tenant, hidden: str
) -> None:
    link = client.walk("groups/delta?$deltatoken=latest").delta_link or ""
    tenant.update_group(hidden, visibility="Private")
    (group,) = client.walk(link).objects
    assert len(group["members@delta"]) == 40


def test_the_truth_counts_hidden_members_unless_asked_not_to(tenant: Tenant, hidden: str) -> None:
    everything = tenant.truth()["group_members"]
    seen = tenant.truth(hidden=False)["group_members"]
    groups = [
        g["id"] for g in tenant.iterate_live("groups") if g["visibility"] == "HiddenMembership"
    ]
    assert hidden in groups
    assert everything.count - seen.count == sum(len(tenant.members_of(g)) for g in groups)
    tenant.options.hide_hidden_members = False
    assert tenant.truth(hidden=False)["group_members"] == everything


# -- circles --------------------------------------------------------------------------------------


def steps(client: Client, target: str, count: int) -> tuple[list[str], list[str]]:
    """The next links of that many pages, and what each page holds."""
    links, contents = [], []
    for page in itertools.islice(client.iterate_pages(target), count):
        links.append(page["@odata.nextLink"])
        contents.append(json.dumps(page["value"]))
    return links, contents


LOOPING = (
    "users?$top=10",
    "users/delta",
    "groups/delta",
    "groups/{group}/members?$top=10",
    "users/{user}/memberOf?$top=1",
    "sites/getAllSites",
    "sites?search=*",
    "roleManagement/directory/roleAssignments?$top=1",
)


def pattern(found: list[str]) -> list[int]:
    """Where each of them was seen first."""
    return [found.index(one) for one in found]


CIRCLES: dict[LoopKind, tuple[list[int], list[int]]] = {
    "same": ([0, 0, 0, 0, 0, 0], [0, 1, 1, 1, 1, 1]),
    "cycle": ([0, 1, 0, 1, 0, 1], [0, 1, 2, 1, 2, 1]),
    "payload": ([0, 1, 2, 3, 4, 5], [0, 1, 1, 1, 1, 1]),
    "empty": ([0, 1, 2, 3, 4, 5], [0, 1, 1, 1, 1, 1]),
}
"""The next links and the contents of six pages, each by where it was seen first."""


@pytest.mark.parametrize("target", LOOPING)
@pytest.mark.parametrize("loop", CIRCLES)
def test_walks_go_in_circles(client: Client, tenant: Tenant, target: str, loop: LoopKind) -> None:
    tenant.options = TenantOptions(
        delta_page_size=3, members_per_entry=10, site_page_size=2, loop=loop, loop_length=2
    )
    one = {"group": tenant.groups.id_at(0), "user": tenant.users.id_at(0)}
    for group_id in map(tenant.groups.id_at, range(4)):
        tenant.add_member(group_id, one["user"])
    links, contents = steps(client, target.format(**one), 6)
    assert (pattern(links), pattern(contents)) == CIRCLES[loop]
    assert (contents[1] == "[]") is (loop == "empty")


@pytest.mark.parametrize("target", ["users?$top=20", "users/delta"])
def test_a_walk_begins_again_where_it_should_end(
    client: Client, tenant: Tenant, target: str
) -> None:
    tenant.options = TenantOptions(delta_page_size=20, loop="again")
    links, contents = steps(client, target, 7)
    assert len(set(links)) == 7
    assert contents[3:6] == contents[:3]


def test_later_rounds_go_in_circles_too(client: Client, tenant: Tenant) -> None:
    link = client.walk("users/delta?$deltatoken=latest").delta_link or ""
    tenant.update_user(tenant.users.id_at(3), jobTitle="Lamplighter")
    tenant.options = TenantOptions(loop="payload", loop_start_page=0)
    links, contents = steps(client, link, 4)
    assert len(set(links)) == 4
    assert pattern(contents) == [0, 0, 0, 0]
    assert "Lamplighter" in contents[0]


def test_only_chosen_walks_go_in_circles(client: Client, tenant: Tenant) -> None:
    tenant.options = TenantOptions(
        loop="payload",
        loop_start_page=0,
        loop_paths={"groups/{id}/members"},
        list_page_size=20,
        delta_page_size=20,
    )
    assert len(client.walk("users").objects) == 60
    assert client.walk("users/delta").delta_link
    links, _ = steps(client, f"groups/{tenant.groups.id_at(0)}/members", 5)
    assert len(links) == 5


# -- age ------------------------------------------------------------------------------------------


def test_page_tokens_of_lists_grow_old(client: Client, tenant: Tenant) -> None:
    tenant.options = TenantOptions(list_page_size=20, page_token_ttl=0.3)
    link = client.get("users").json()["@odata.nextLink"]
    assert client.get(link).status_code == 200
    time.sleep(0.35)
    assert code_of(client.get(link)) == (400, "Directory_ExpiredPageToken")
    assert client.get("users").status_code == 200
    tenant.options.page_token_ttl = 0
    assert client.get(link).status_code == 200


def test_delta_tokens_and_pages_of_their_rounds_grow_old(client: Client, tenant: Tenant) -> None:
    tenant.options = TenantOptions(delta_page_size=20, delta_token_ttl=0.3, page_token_ttl=0.0)
    page = client.get("users/delta").json()["@odata.nextLink"]
    link = client.walk("users/delta?$deltatoken=latest").delta_link or ""
    assert client.get(page).status_code == client.get(link).status_code == 200
    time.sleep(0.35)
    for old in (page, link):
        assert code_of(client.get(old)) == (410, "syncStateNotFound")
    assert client.walk("users/delta?$deltatoken=latest").delta_link
