"""A sandbox that is started again on its file goes on with what happened before."""

import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple, Self

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sandbox.tenant import Client, KindCounts, Nango, Server, Tenant, serve
from sandbox.tenant.state_file import StateFile, StateFileError
from tests.support.small_disk import fill_disk, mount_small_disk

KINDS = KindCounts.for_users(60)


def made(users: int = 60, kinds: KindCounts | None = KINDS) -> Nango:
    nango = Nango(rate_limit=None)
    nango.add_connection("c1", Tenant(seed=1, epoch=7, users=users, groups=8, sites=6, kinds=kinds))
    nango.add_connection("c2", Tenant(seed=2, epoch=7, users=5, groups=2))
    return nango


def tenant_of(nango: Nango, name: str = "c1") -> Tenant:
    connection = nango.find(name)
    assert connection is not None
    return connection.tenant


@contextmanager
def served(path: Path) -> Iterator[Server]:
    nango = made()
    with StateFile(path, nango), serve(nango) as server:
        yield server


def test_delta_tokens_stay_valid_and_tell_only_what_is_new(tmp_path: Path) -> None:
    file = tmp_path / "kept"
    with served(file) as server, Client(server, "c1") as client:
        tenant_of(server.nango).mutate(50)
        links = {one: client.walk(f"{one}/delta").delta_link or "" for one in ("users", "groups")}
        server.nango.on_change()
        truth = tenant_of(server.nango).truth()
    with served(file) as server, Client(server, "c1") as client:
        tenant = tenant_of(server.nango)
        assert tenant.truth() == truth
        assert client.walk(links["groups"]).objects == []
        user_id = tenant.create_user(displayName="Ada Quill")
        assert [one["id"] for one in client.walk(links["users"]).objects] == [user_id]


class TenantState(NamedTuple):
    truth: object
    logs: object
    members: object
    further: object
    """What only some tenants have."""


def read_state(tenant: Tenant) -> TenantState:
    groups = [tenant.groups.id_at(n) for n in tenant.groups.iterate_live()]
    further = (*tenant.further, *tenant.edges, "sign_in_activity")
    return TenantState(
        tenant.truth(),
        tenant.change_log,
        [tenant.members_of(one) for one in groups],
        {name: list(tenant.iterate_live(name)) for name in further},
    )


@settings(max_examples=6, deadline=None)
@example(rounds=[4, 2, 24, 3])
@given(rounds=st.lists(st.integers(0, 40), min_size=1, max_size=4))
def test_a_tenant_is_what_it_had_become_without_a_restart(
    tmp_path_factory: pytest.TempPathFactory, rounds: list[int]
) -> None:
    file = tmp_path_factory.mktemp("kept") / "file"
    unbroken = tenant_of(made())
    for number in rounds:
        nango = made()
        with StateFile(file, nango):
            assert read_state(tenant_of(nango)) == read_state(unbroken)
            for tenant in (tenant_of(nango), unbroken):
                tenant.mutate(number)
                group = tenant.groups.id_at(next(tenant.groups.iterate_live()))
                member = next(iter(tenant.members_of(group)), None)
                if member and number % 2:
                    tenant.remove_member(group, member.id)
                    tenant.add_member(group, member.id, member.type)
            nango.on_change()
            assert read_state(tenant_of(nango)) == read_state(unbroken)


def test_a_file_of_an_earlier_release_goes_on_with_what_tenants_have_now(tmp_path: Path) -> None:
    """It knows users, groups, sites and roles; the rest is as in a new tenant."""
    file = tmp_path / "kept"
    nango = made(kinds=None)
    with StateFile(file, nango):
        tenant_of(nango).mutate(40)
        truth = tenant_of(nango).truth()["users"]
    for _ in range(2):
        nango = made()
        with StateFile(file, nango):
            tenant = tenant_of(nango)
            assert tenant.truth()["users"] == truth
            for name in ("service_principals", "subscribed_skus", "group_owners", "managers"):
                assert list(tenant.iterate_live(name))


def test_what_an_operator_did_to_a_connection_is_kept(tmp_path: Path) -> None:
    nango = made()
    with StateFile(tmp_path / "kept", nango):
        one, two = nango.connections
        one.metadata = {"tenant_mirror": {"enabled": False}}
        one.refused_resources = {"sites"}
        one.refresh.fails = True
        two.tenant.expire_delta_tokens()
        nango.disconnect(two)
    nango = made()
    with StateFile(tmp_path / "kept", nango):
        (one,) = nango.connections
        assert (one.metadata, one.refused_resources) == (
            {"tenant_mirror": {"enabled": False}},
            {"sites"},
        )
        assert one.refresh_fails
        assert [two.connection_id for two in nango.disconnected] == ["c2"]
        assert nango.disconnected[0].tenant.delta_epoch == 8


class Process:
    """A sandbox of one tenant that is killed at the end, and a consumer of it."""

    def __init__(self, file: Path, *more: str) -> None:
        command = [sys.executable, "-m", "sandbox.tenant", "--port", "0", "--users", "200"]
        self._process = subprocess.Popen(
            [*command, "--keep", str(file), *more], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout
        line = self._process.stdout.readline()
        ready = re.fullmatch(r"sandbox ready url=(\S+) key=(\S+)\n", line)
        assert ready
        key = {"authorization": f"Bearer {ready[2]}"}
        self.http = httpx.Client(base_url=ready[1], headers=key, trust_env=False)
        name = self.http.get("/connections").json()["connections"][0]["connection_id"]
        self.http.headers.update({"connection-id": name, "provider-config-key": "entra"})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._process as process:
            process.kill()
        self.http.close()

    def get(self, target: str) -> httpx.Response:
        return self.http.get(f"/proxy/v1.0/{target.rpartition('/v1.0/')[2]}")

    def follow(self, link: str, live: dict[str, bool]) -> str:
        """A round of changes; the link of the next one."""
        while True:
            page = self.get(link).raise_for_status().json()
            live |= {one["id"]: "@removed" not in one for one in page["value"]}
            if "@odata.deltaLink" in page:
                return str(page["@odata.deltaLink"])
            link = page["@odata.nextLink"]


def test_nothing_that_was_told_is_lost_by_a_kill(tmp_path: Path) -> None:
    """Changes come every few milliseconds, so that a kill meets some that were just made."""
    link, live = "users/delta", dict[str, bool]()
    with Process(tmp_path / "kept", "--mutate-every", "0.002", "--mutations", "3") as process:
        while len(live) <= 210:
            link = process.follow(link, live)
    with Process(tmp_path / "kept") as process:
        process.follow(link, live)
        found = {one: process.get(f"users/{one}").status_code == 200 for one in live}
        assert found == live


def test_a_file_of_other_tenants_is_refused(tmp_path: Path) -> None:
    with StateFile(tmp_path / "kept", made()):
        pass
    with pytest.raises(StateFileError, match=r"another seed or in other numbers.*delete it"):
        StateFile(tmp_path / "kept", made(users=61))


@pytest.mark.parametrize("content", [b"nonsense" * 500, b"SQLite format 3\0" + b"\1" * 500])
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "kept").write_bytes(content)
    with pytest.raises(StateFileError, match="delete it to begin with"):
        StateFile(tmp_path / "kept", made())


def test_a_file_of_a_later_release_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "kept")) as file:
        file.execute("pragma user_version = 9")
    with pytest.raises(StateFileError, match="format 9"):
        StateFile(tmp_path / "kept", made())


def test_two_sandboxes_do_not_share_a_file(tmp_path: Path) -> None:
    with (
        StateFile(tmp_path / "kept", made()),
        pytest.raises(StateFileError, match="another sandbox"),
    ):
        StateFile(tmp_path / "kept", made())


def test_a_full_disk_loses_nothing_once_there_is_room(tmp_path: Path) -> None:
    with mount_small_disk(tmp_path / "disk", 2) as disk:
        nango = made()
        with StateFile(disk / "kept", nango):
            filler = fill_disk(disk)
            tenant_of(nango).mutate(400)
            nango.on_change()
            filler.unlink()
            tenant_of(nango).mutate(1)
            nango.on_change()
            truth = read_state(tenant_of(nango))
        nango = made()
        with StateFile(disk / "kept", nango):
            assert read_state(tenant_of(nango)) == truth
