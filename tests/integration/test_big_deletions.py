"""Deleting what has many memberships takes transactions of a bounded size, the object last."""

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby

import pytest
from msgspec import structs
from sqlalchemy import text

from models.run import RunState
from sandbox.tenant import Tenant, TenantOptions
from tests.support.fork_server import run_command
from tests.support.mirror import (
    MakeMirror,
    MakeSynced,
    Mirror,
    assert_exact,
    fetch_scalar,
    read_events,
    read_last_seq,
    verify_connection,
)
from worker.erasure.erase import erase, finish_erasures
from worker.erasure.target import ErasureTarget, find_target
from worker.store.mirror.cascade import EDGE_BATCH
from worker.store.state.connections import find_connection
from worker.sync.finish.approve import approve_held

pytestmark = pytest.mark.first_resources

CROWD = 2 * EDGE_BATCH + 500
"""Members: more than two transactions take."""

ALL = CROWD + 1
"""The group is itself a member of another one."""


@pytest.fixture
def make_crowded(make_synced: MakeSynced) -> Callable[[int], Mirror]:
    """Makes a tenant with one group of very many members, itself in another one, mirrored."""

    def make(members: int) -> Mirror:
        mirror = make_synced(
            seed=6,
            users=CROWD + 20,
            groups=3,
            big_groups=1,
            big_group_members=members,
            options=TenantOptions(delta_page_size=10_000),
        )
        big, other = (mirror.tenant.groups.id_at(index) for index in (0, 2))
        mirror.tenant.add_member(other, big, "group")
        mirror.sync()
        return mirror

    return make


@pytest.fixture
def crowded(make_crowded: Callable[[int], Mirror]) -> Mirror:
    return make_crowded(CROWD)


def biggest(mirror: Mirror) -> str:
    found = fetch_scalar(
        mirror.database,
        "select group_id from directory.group_members where deleted_at is null"
        " group by group_id order by count(*) desc limit 1",
    )
    return str(found)


def transactions(mirror: Mirror, after: int) -> list[Counter[tuple[str, str]]]:
    """How many events of each resource and kind each transaction wrote, in order."""
    statement = text(
        "select xmin::text as number, resource, change from events.change_events"
        " where seq > :after and resource in ('users', 'groups', 'group_members') order by seq"
    )
    found: dict[str, Counter[tuple[str, str]]] = {}
    with mirror.database.open_transaction() as db:
        for event in db.execute(statement, {"after": after}):
            found.setdefault(event.number, Counter())[event.resource, event.change] += 1
    return list(found.values())


def assert_in_batches(mirror: Mirror, after: int) -> None:
    """Each membership ended once, some in each transaction; the group's own end came last."""
    written = transactions(mirror, after)
    sizes = [some["group_members", "deleted"] for some in written]
    assert max(sizes) <= EDGE_BATCH
    assert sum(sizes) == ALL
    assert [some["groups", "deleted"] for some in written] == [0] * (len(written) - 1) + [1]
    assert len(written) == 1 + ALL // EDGE_BATCH
    assert read_events(mirror.database, after=after)[-1]["resource"] == "groups"
    assert_exact(mirror.database, mirror.tenant)


def test_a_big_group_ends_in_batches_and_its_own_end_comes_last(crowded: Mirror) -> None:
    mark = read_last_seq(crowded.database)
    crowded.tenant.delete_group(biggest(crowded))
    crowded.sync()
    assert_in_batches(crowded, mark)


def test_a_big_group_that_a_walk_does_not_see_ends_in_batches(crowded: Mirror) -> None:
    mark = read_last_seq(crowded.database)
    crowded.tenant.delete_group(biggest(crowded), permanently=True)
    crowded.tenant.expire_delta_tokens()
    crowded.sync("groups")
    assert_in_batches(crowded, mark)


def test_a_big_group_that_was_held_ends_in_batches_once_approved(crowded: Mirror) -> None:
    wary = structs.replace(crowded.runtime.settings, guard_rows=0, guard_percent=1)
    crowded.runtime = replace(crowded.runtime, settings=wary)
    mark = read_last_seq(crowded.database)
    crowded.tenant.delete_group(biggest(crowded))
    assert crowded.sync().state is RunState.HELD
    assert approve_held(crowded.database, crowded.connection_id) == ALL + 1
    assert_in_batches(crowded, mark)


def sync_and_die(mirror: Mirror, point: str) -> None:
    """Sync in a process of its own that is killed at a point."""
    die_at(mirror, point, "sync", "contoso")


def die_at(mirror: Mirror, point: str, *command: str) -> None:
    """Run a command in a process of its own that is killed at a point."""
    settings = mirror.runtime.settings
    address = mirror.database.url.set(drivername="postgresql")
    environment = {
        **{k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG")},
        "DATABASE_URL": address.render_as_string(hide_password=False),
        "NANGO_HOST": settings.nango_host,
        "NANGO_SECRET_KEY": mirror.nango.key,
        "TENANT_MIRROR_GUARD_PERCENT": str(settings.guard_percent),
        "TENANT_MIRROR_CRASH_AT": point,
    }
    done = run_command(command, environment)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with mirror.database.open_transaction() as db:
        db.exec_driver_sql("update sync.leases set expires_at = null")


def test_who_is_killed_between_batches_goes_on_and_tells_nothing_twice(crowded: Mirror) -> None:
    mark, group = read_last_seq(crowded.database), biggest(crowded)
    crowded.tenant.delete_group(group)
    sync_and_die(crowded, "removals-batch:2")
    left = (
        "select count(*) from directory.group_members where group_id = :id and deleted_at is null"
    )
    assert fetch_scalar(crowded.database, left, id=group) == CROWD - 2 * EDGE_BATCH
    assert (
        fetch_scalar(
            crowded.database, "select deleted_at from directory.groups where id = :id", id=group
        )
        is None
    )
    crowded.sync()
    assert_in_batches(crowded, mark)


def test_a_group_that_comes_back_between_batches_has_all_its_members_again(
    crowded: Mirror,
) -> None:
    group = biggest(crowded)
    crowded.tenant.delete_group(group)
    sync_and_die(crowded, "removals-batch:1")
    crowded.tenant.restore_group(group)
    crowded.sync()
    crowded.sync()
    assert_exact(crowded.database, crowded.tenant)


def test_groups_and_users_of_many_memberships_end_together(make_mirror: MakeMirror) -> None:
    tenant = Tenant(seed=7, users=EDGE_BATCH + 700, groups=6, members_per_group=3)
    mirror = make_mirror(tenant)
    groups = [tenant.groups.id_at(n) for n in range(3)]
    for number, group in enumerate(groups[:2]):
        for index in range(EDGE_BATCH + 100 * number):
            tenant.add_member(group, tenant.users.id_at(index + 300 * number))
    tenant.add_member(groups[0], groups[1], "group")
    tenant.add_member(groups[1], groups[0], "group")
    tenant.add_member(groups[2], groups[0], "group")
    mirror.sync()
    assert_exact(mirror.database, tenant)
    mark = read_last_seq(mirror.database)
    for group in groups[:2]:
        tenant.delete_group(group)
    for index in range(0, 80, 2):
        tenant.delete_user(tenant.users.id_at(index))
    mirror.sync()
    assert_exact(mirror.database, tenant)
    assert (
        max(some["group_members", "deleted"] for some in transactions(mirror, mark)) <= EDGE_BATCH
    )
    ended = [
        e["object_id"]
        for e in read_events(mirror.database, after=mark)
        if e["resource"] == "group_members"
    ]
    assert len(ended) == len(set(ended))


def names(mirror: Mirror, key: str) -> int:
    """How many memberships, groups and events name an object."""
    statement = """
        select (select count(*) from directory.group_members
                 where :id in (group_id::text, member_id::text))
             + (select count(*) from directory.groups where id::text = :id)
             + (select count(*) from sync.seen where keys::text like '%' || :id || '%')
             + (select count(*) from sync.erasures where pending::text like '%' || :id || '%')
             + (select count(*) from events.change_events
                 where object_id like '%' || :id || '%' or before::text like '%' || :id || '%'
                       or after::text like '%' || :id || '%')
    """
    return int(fetch_scalar(mirror.database, statement, id=key))


def subject(mirror: Mirror, key: str) -> ErasureTarget:
    with mirror.database.open_transaction() as db:
        return find_target(db, find_connection(db, "contoso"), key, "groups")


def deletions(mirror: Mirror, after: int) -> list[tuple[str, int]]:
    """The resources that ended, in order, with how many in a row."""
    ended = [e["resource"] for e in read_events(mirror.database, after=after)]
    return [(of, len(list(some))) for of, some in groupby(ended)]


def assert_erased(mirror: Mirror, group: str, after: int) -> None:
    assert names(mirror, group) == 0
    assert deletions(mirror, after) == [("group_members", ALL), ("groups", 1)]
    mirror.sync(full=True)
    assert names(mirror, group) == 0
    assert verify_connection(mirror.database).problems == []


@contextmanager
def watching_deletes(mirror: Mirror, sizes: list[int]) -> Iterator[None]:
    """How many membership rows each transaction deletes, counted by a trigger."""
    with mirror.database.open_transaction() as connection:
        connection.exec_driver_sql(WATCH)
    yield
    with mirror.database.open_transaction() as db:
        found = db.exec_driver_sql(
            "select count(*) from public.watched group by number order by min(at)"
        )
        sizes += found.scalars()


WATCH = """
    create table public.watched (number xid8, at timestamptz);
    create function public.watch() returns trigger language plpgsql as $$ begin
        insert into public.watched values (pg_current_xact_id(), clock_timestamp());
        return old; end $$;
    create trigger watch after delete on directory.group_members
       for each row execute function public.watch()
"""


@pytest.mark.parametrize("members", [CROWD, 2 * EDGE_BATCH - 1])
def test_a_big_group_is_erased_in_batches_and_its_own_end_comes_last(
    make_crowded: Callable[[int], Mirror], members: int
) -> None:
    mirror = make_crowded(members)
    mark, group = read_last_seq(mirror.database), biggest(mirror)
    taken: list[int] = []
    with watching_deletes(mirror, taken):
        done = erase(mirror.database, subject(mirror, group), lambda _table, _rows: None)
    assert done.is_new
    assert done.row_counts["directory.group_members"] == members + 1
    assert names(mirror, group) == 0
    assert deletions(mirror, mark) == [("group_members", members + 1), ("groups", 1)]
    assert len(taken) == -(-(members + 1) // EDGE_BATCH)
    assert max(taken) <= EDGE_BATCH
    assert sum(taken) == members + 1


def test_an_erasure_that_was_killed_between_batches_is_finished_by_maintenance(
    crowded: Mirror,
) -> None:
    mark, group = read_last_seq(crowded.database), biggest(crowded)
    die_at(crowded, "memberships-erased:2", "erase", "contoso", group, "--yes")
    left = "select count(*) from directory.group_members where group_id = :id"
    assert fetch_scalar(crowded.database, left, id=group) == CROWD - 2 * EDGE_BATCH
    finish_erasures(crowded.database)
    assert_erased(crowded, group, mark)


def test_an_erasure_that_was_killed_between_batches_goes_on_with_the_same_command(
    crowded: Mirror,
) -> None:
    mark, group = read_last_seq(crowded.database), biggest(crowded)
    die_at(crowded, "memberships-erased:1", "erase", "contoso", group, "--yes")
    done = erase(crowded.database, subject(crowded, group), lambda _table, _rows: None)
    assert not done.is_new
    assert_erased(crowded, group, mark)


def test_a_full_walk_between_the_batches_of_an_erasure_neither_ends_nor_brings_back_members(
    crowded: Mirror,
) -> None:
    mark, group = read_last_seq(crowded.database), biggest(crowded)
    die_at(crowded, "memberships-erased:1", "erase", "contoso", group, "--yes")
    told = deletions(crowded, mark)
    assert crowded.sync(full=True).state is RunState.SUCCEEDED
    assert deletions(crowded, mark) == told == [("group_members", EDGE_BATCH)]
    finish_erasures(crowded.database)
    assert_erased(crowded, group, mark)
