"""Delta rounds: folded into rows they give exactly the truth, whatever happens meanwhile."""

from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox.tenant import (
    Client,
    Nango,
    Tenant,
    TenantOptions,
    Truth,
    build_row,
    serve,
    truth_from_rows,
)
from sandbox.tenant.directory.fields import GROUPS, USERS

USERS_DELTA = f"users/delta?$select={','.join(USERS.generated)}"
GROUPS_DELTA = f"groups/delta?$select={','.join(GROUPS.generated)},members"


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
            "users": truth_from_rows(build_row("users", one) for one in self.users.values()),
            "groups": truth_from_rows(build_row("groups", one) for one in self.groups.values()),
            "group_members": truth_from_rows(build_row("group_members", one) for one in edges),
        }


def expected(tenant: Tenant) -> dict[str, Truth]:
    truth = tenant.truth()
    return {name: truth[name] for name in ("users", "groups", "group_members")}


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Nango, Client]]:
    """One server for all examples; each example has a tenant of its own."""
    nango = Nango()
    nango.add_connection("c1", Tenant())
    with serve(nango) as server, Client(server, "c1") as client:
        yield nango, client


def link_of(client: Client, target: str) -> str:
    link = client.walk(target).delta_link
    assert link
    return link


def test_a_first_round_enumerates_everything(shared: tuple[Nango, Client]) -> None:
    nango, client = shared
    tenant = Tenant(seed=5, users=300, groups=12, big_groups=1, big_group_members=290)
    nango.connections[0].tenant = tenant
    fold = Fold()
    users, groups = client.walk(USERS_DELTA), client.walk(GROUPS_DELTA)
    fold.add_users(users.objects)
    fold.add_groups(groups.objects)
    assert users.pages == 2
    assert fold.truth() == expected(tenant)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    seed=st.integers(0, 2**32),
    users=st.integers(0, 40),
    groups=st.integers(0, 6),
    options=st.builds(
        TenantOptions,
        list_page_size=st.integers(1, 30),
        delta_page_size=st.integers(1, 30),
        members_per_entry=st.integers(1, 12),
        empty_page_every=st.sampled_from([0, 2, 3]),
        repeat_every=st.sampled_from([0, 1, 2]),
        initial_tombstones=st.booleans(),
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
    options: TenantOptions,
    rounds: list[int],
    listed: bool,
) -> None:
    """While the directory changes between any two pages."""
    nango, client = shared
    tenant = Tenant(
        seed=seed, users=users, groups=groups, big_groups=1, big_group_members=30, options=options
    )
    nango.connections[0].tenant = tenant
    rng, fold = Random(seed), Fold()

    def walk(target: str, busy: int) -> tuple[list[dict[str, Any]], str]:
        found: list[dict[str, Any]] = []
        link = ""
        for number, page in enumerate(client.iterate_pages(target)):
            found += page["value"]
            link = page.get("@odata.deltaLink", "")
            if number < busy:
                tenant.mutate(2, rng)
        return found, link

    if listed:
        link = link_of(client, USERS_DELTA + "&$deltatoken=latest")
        fold.add_users(walk(f"users?$select={','.join(USERS.generated)}", 5)[0])
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
    live = {m["id"] for m in tenant.iterate_live("users")} | {
        g["id"] for g in tenant.iterate_live("groups")
    }
    gone = {one for edge in fold.edges for one in edge if one not in live}
    for object_id in gone & set(_ever(tenant)):
        fold._forget(object_id)
    assert fold.truth() == expected(tenant)


def _ever(tenant: Tenant) -> Iterator[str]:
    yield from (tenant.users.id_at(i) for i in range(tenant.users.total))
    yield from (tenant.groups.id_at(i) for i in range(tenant.groups.total))
