"""A sweep of any size: its candidates are staged, judged, held and deleted some at a time."""

import os
import subprocess
import sys
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from msgspec import structs
from sqlalchemy import text

from models.resource import Resource
from models.resources import RESOURCES
from models.resources.group_members import GROUP_MEMBERS
from models.resources.groups import GROUPS
from models.resources.users import USERS
from models.run import RunState, RunTrigger
from sandbox.tenant import KindCounts, Request, Response, Tenant
from tests.integration.test_big_deletions import die_at, sync_and_die, transactions
from tests.integration.test_unconfirmed import Unlisted, noted, tick
from tests.support.mirror import (
    MakeMirror,
    MakeSynced,
    Mirror,
    assert_exact,
    fetch_scalar,
    read_events,
    read_last_seq,
)
from worker.core.settings import Settings
from worker.graph.client import GraphClient
from worker.nango.client import ConnectionRef
from worker.store.lease import interrupt_writer, release_lease, take_lease
from worker.store.state.connections import get_connection
from worker.store.state.runs import resume_or_open
from worker.store.state.streams import load_streams
from worker.store.sweep.candidates import (
    drop_unasked_candidates,
    hold_hidden_candidates,
    hold_unseen_candidates,
    list_candidates,
    list_unconfirmed_at,
)
from worker.store.sweep.removals import DELETION_BATCH
from worker.store.sweep.staging import Staging, count_candidates
from worker.sync.context import SliceContext
from worker.sync.finish.approve import approve_held
from worker.sync.finish.candidates import CONFIRM_BATCH, prepare_sweep
from worker.sync.finish.keep import Confirmation
from worker.sync.finish.sweep import apply_sweep
from worker.sync.plan import SyncRequest
from worker.sync.policy import Policy

WALK = 99
GONE = DELETION_BATCH + 150
"""Users: more than one batch deletes, and than are all read by id."""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Every resource is on, those included that are off by default."""
    return structs.replace(settings, resources_on=tuple(RESOURCES))


@pytest.fixture
def mirror(make_synced: MakeSynced) -> Mirror:
    """A tenant with something of every kind, enrolled and mirrored."""
    return make_synced(seed=3, users=60, groups=8, sites=6, kinds=KindCounts.for_users(60))


def staged(mirror: Mirror, resource: Resource, limit: int) -> set[str]:
    """Stage a resource's candidates some at a time; all their keys."""
    staging, done = Staging(resource, WALK, limit), False
    while not done:
        with interrupt_writer(mirror.database, mirror.connection_id) as tx:
            done = staging.advance(tx)
    keys = "select array_agg(key) from sync.candidates where resource = :name"
    return set(fetch_scalar(mirror.database, keys, name=resource.name) or ())


def live_keys(mirror: Mirror, resource: Resource) -> list[str]:
    key = " || '/' || ".join(f"{name}::text" for name in resource.key)
    keys = f"select array_agg({key} order by {key}) from directory.{resource.name}"
    return list(fetch_scalar(mirror.database, f"{keys} where deleted_at is null"))


def saw(mirror: Mirror, resource: Resource, keys: list[str]) -> None:
    statement = text("insert into sync.seen values (1, :name, :walk, 0, :keys, null)")
    with mirror.database.open_transaction() as db:
        values = {"name": resource.name, "walk": WALK, "keys": keys}
        db.execute(statement, values)


def largest_transaction(mirror: Mirror, table: str) -> int:
    rows = f"select count(*) as n from sync.{table} group by xmin::text"
    return int(fetch_scalar(mirror.database, f"select max(n) from ({rows}) as t"))


@pytest.mark.parametrize("limit", [1, 7, 1000])
@pytest.mark.parametrize("name", RESOURCES)
def test_what_a_walk_did_not_see_is_staged_a_bounded_number_at_a_time(
    mirror: Mirror, name: str, limit: int
) -> None:
    resource = RESOURCES[name]
    keys = live_keys(mirror, resource)
    saw(mirror, resource, keys[::3])
    assert staged(mirror, resource, limit) == set(keys) - set(keys[::3])
    assert largest_transaction(mirror, "candidates") <= limit


def test_what_is_set_apart_and_members_of_groups_that_go_are_no_candidates(mirror: Mirror) -> None:
    groups = live_keys(mirror, GROUPS)
    malformed, silent, going, *others = groups
    saw(mirror, GROUPS, others)
    with mirror.database.open_transaction() as db:
        db.exec_driver_sql(
            "insert into sync.quarantine (connection_id, resource, key, reason)"
            f" values (1, 'groups', '{malformed}', 'odd')"
        )
        db.exec_driver_sql(
            "insert into sync.unresolved (connection_id, resource, kind, key, reason, retry_at)"
            f" values (1, 'group_members', 'members', '{others[0]}', 'x', now()),"
            f" (1, 'groups', 'object', '{silent}', 'x', now())"
        )
    assert staged(mirror, GROUPS, 2) == {going}
    expected = {key for key in live_keys(mirror, GROUP_MEMBERS) if key[:36] in others[1:]}
    assert staged(mirror, GROUP_MEMBERS, 2) == expected


def test_what_a_round_announced_is_judged_along_with_what_was_not_seen(mirror: Mirror) -> None:
    keys = live_keys(mirror, USERS)
    saw(mirror, USERS, keys[10:])
    announced = {keys[0]: "soft_deleted", keys[1]: "not_seen", keys[20]: "soft_deleted"}
    with mirror.database.open_transaction() as db:
        for key, reason in announced.items():
            db.execute(
                text(
                    "insert into sync.removals (connection_id, resource, key, reason)"
                    " values (1, 'users', :key, :reason)"
                ),
                {"key": key, "reason": reason},
            )
    assert staged(mirror, USERS, 3) == {*keys[:10], keys[20]}
    with interrupt_writer(mirror.database, 1) as tx:
        numbers = count_candidates(tx, USERS)
        assert (numbers.unexplained, numbers.to_delete, numbers.unconfirmed) == (8, 11, 9)
        assert list_unconfirmed_at(tx, USERS, [0, 8]) == [keys[1], keys[9]]
        some = list_candidates(tx, USERS, after="", up_to=keys[9], limit=4)
        assert some == {keys[0]: "soft_deleted"} | dict.fromkeys(keys[1:4], "not_seen")
        assert drop_unasked_candidates(tx, USERS, keys[1:3]) == 7
        rest = list_candidates(tx, USERS, after=keys[0], up_to=None, limit=100)
        assert list(rest) == [keys[1], keys[2], keys[20]]


@pytest.mark.parametrize("limit", [1, 7, 1000])
def test_candidates_are_held_a_bounded_number_at_a_time(mirror: Mirror, limit: int) -> None:
    keys = live_keys(mirror, GROUP_MEMBERS)
    staged(mirror, GROUP_MEMBERS, 1000)
    for hold in (hold_unseen_candidates, hold_hidden_candidates):
        after: str | None = ""
        while after is not None:
            with interrupt_writer(mirror.database, 1) as tx:
                after = hold(tx, GROUP_MEMBERS, after, limit)
    assert largest_transaction(mirror, "removals") <= limit
    found = "select array_agg(key order by key) from sync.removals where held"
    assert fetch_scalar(mirror.database, found) == keys


# ---- whole sweeps


def wary(mirror: Mirror, percent: int) -> Mirror:
    mirror.runtime = replace(
        mirror.runtime, settings=structs.replace(mirror.runtime.settings, guard_percent=percent)
    )
    return mirror


@pytest.fixture
def losing(make_mirror: MakeMirror) -> Mirror:
    """A tenant that has lost many users, of which only a full walk can tell."""
    tenant = Tenant(seed=9, users=2 * GONE, groups=5, sites=2)
    tenant.options.delta_page_size = 10_000
    mirror = wary(make_mirror(tenant), 100)
    mirror.sync()
    for index in range(GONE):
        tenant.delete_user(tenant.users.id_at(index), permanently=True)
    return mirror


def left(mirror: Mirror) -> tuple[int, int, int]:
    """Candidates, removals that are held, and others."""
    counts = "select count(*) from sync.removals where held = :held"
    return (
        int(fetch_scalar(mirror.database, "select count(*) from sync.candidates")),
        int(fetch_scalar(mirror.database, counts, held=True)),
        int(fetch_scalar(mirror.database, counts, held=False)),
    )


def deleted_users(mirror: Mirror, after: int) -> Counter[str]:
    told = read_events(mirror.database, after=after)
    return Counter(e["object_id"] for e in told if e["resource"] == "users")


def sync_users_and_die(mirror: Mirror, point: str) -> None:
    """No other stream passes the point first."""
    die_at(mirror, point, "sync", "contoso", "--resource", "users")


@pytest.mark.parametrize("point", ["sweep-prepared", "sweep-batch", "sweep-ended"])
def test_a_sweep_that_is_killed_goes_on_and_tells_each_deletion_once(
    losing: Mirror, point: str
) -> None:
    mark = read_last_seq(losing.database)
    losing.tenant.expire_delta_tokens()
    sync_users_and_die(losing, point)
    at_once = {"sweep-prepared": 0, "sweep-batch": DELETION_BATCH, "sweep-ended": GONE}
    assert deleted_users(losing, mark).total() == at_once[point]
    assert losing.sync().state is RunState.SUCCEEDED
    assert set(deleted_users(losing, mark).values()) == {1}
    assert deleted_users(losing, mark).total() == GONE
    assert max(some["users", "deleted"] for some in transactions(losing, mark)) == DELETION_BATCH
    assert left(losing) == (0, 0, 0)
    assert_exact(losing.database, losing.tenant)


def test_a_torn_walk_keeps_all_of_many(losing: Mirror) -> None:
    mark, tenant = read_last_seq(losing.database), losing.tenant
    there = [tenant.users.id_at(GONE + index) for index in range(GONE)]
    Unlisted(losing, "users", dict.fromkeys(there, 200))
    tenant.expire_delta_tokens()
    report = losing.sync("users")
    assert report.state is RunState.PARTIAL
    assert "missed" in (report.message or "")
    assert read_events(losing.database, after=mark) == []
    losing.nango.before_graph = None
    assert losing.sync("users").state is RunState.SUCCEEDED
    assert deleted_users(losing, mark).total() == GONE
    assert left(losing) == (0, 0, 0)


def test_too_many_candidates_are_all_held_and_go_once_approved(losing: Mirror) -> None:
    mark = read_last_seq(losing.database)
    losing.tenant.expire_delta_tokens()
    wary(losing, 20)
    report = losing.sync("users")
    assert report.state is RunState.HELD
    assert f"{GONE} of {2 * GONE} rows" in report.resources["users"]["problem"]
    assert read_events(losing.database, after=mark) == []
    assert left(losing) == (0, GONE, 0)
    assert losing.sync("users", full=True).state is RunState.HELD
    assert left(losing) == (0, GONE, 0), "the next walk judges them again"
    approve_held(losing.database, losing.connection_id)
    assert losing.sync().state is RunState.SUCCEEDED
    assert deleted_users(losing, mark).total() == GONE
    assert_exact(losing.database, losing.tenant)


# ---- memory


def swept_members(mirror: Mirror, number: int) -> int:
    """Sweep so many memberships of one group; the most memory that took, in bytes."""
    group = mirror.tenant.groups.id_at(0)
    with mirror.database.open_transaction() as db:
        db.execute(
            text(
                "insert into directory.group_members (connection_id, group_id, member_id,"
                " member_type, first_seen_at, changed_at)"
                " select 1, :group, gen_random_uuid(), 'device', now(), now()"
                "   from generate_series(1, :number)"
            ),
            {"group": group, "number": number},
        )
        db.exec_driver_sql("update directory.groups set visibility = null")
        db.exec_driver_sql(
            "update sync.streams set phase = 'sweeping', walk_id = 99 where resource = 'groups'"
        )
    saw(mirror, GROUPS, live_keys(mirror, GROUPS))
    saw(mirror, GROUP_MEMBERS, live_keys(mirror, GROUP_MEMBERS)[:1])
    with session_of(mirror) as context:
        with context.open_read_transaction() as tx:
            stream = load_streams(tx.db, 1)["groups"]
        tracemalloc.start()
        found = prepare_sweep(context, stream)
        assert found is not None
        assert apply_sweep(context, found, Confirmation())
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    live = "select count(*) from directory.group_members where deleted_at is null"
    assert fetch_scalar(mirror.database, live) == 1
    return peak


@contextmanager
def session_of(mirror: Mirror) -> Iterator[SliceContext]:
    """A slice's hold on the connection."""
    runtime = mirror.runtime
    with mirror.database.open_transaction() as db:
        connection = get_connection(db, 1)
        lease, tx = take_lease(db, 1, 600)
        run, now = resume_or_open(tx, RunTrigger.MANUAL), tx.moment
    address = ConnectionRef(connection.nango_connection_id, connection.provider_config_key)
    yield SliceContext(
        database=mirror.database,
        lease=lease,
        connection=connection,
        run=run,
        client=GraphClient(runtime.nango, address, lane=RunTrigger.MANUAL),
        policy=Policy.from_settings(runtime.settings),
        request=SyncRequest(now),
        started_at=now,
        counts=runtime.nango.counts,
        call_seconds=10,
        retry_seconds=1,
    )
    release_lease(mirror.database, lease)


def test_the_memory_of_a_sweep_does_not_grow_with_its_candidates(mirror: Mirror) -> None:
    wary(mirror, 100)
    few, many = (
        swept_members(mirror, 2 * DELETION_BATCH),
        swept_members(mirror, 24 * DELETION_BATCH),
    )
    assert many < few + 1_000_000


# ---- where all candidates are read by id


@pytest.fixture
def searched(make_mirror: MakeMirror) -> Mirror:
    """A tenant whose sites can only be searched for."""
    tenant = Tenant(seed=6, users=5, groups=1, sites=CONFIRM_BATCH + 200)
    tenant.options.refuse_get_all_sites = True
    mirror = wary(make_mirror(tenant), 100)
    mirror.sync()
    return mirror


def found_by_id(mirror: Mirror) -> int:
    return int(mirror.nango.calls.graph["sites/{id}"])


def test_sites_that_a_search_lacks_are_read_by_id_in_portions(searched: Mirror) -> None:
    tenant, mark = searched.tenant, read_last_seq(searched.database)
    sites = [one["id"] for one in tenant.iterate_live("sites") if not one.get("isPersonalSite")]
    gone, unlisted = sites[: CONFIRM_BATCH + 50], sites[CONFIRM_BATCH + 50 : CONFIRM_BATCH + 80]
    for site in gone:
        tenant.delete_site(site)
    Searched(searched, {site.rpartition(",")[2] for site in unlisted})
    sync_and_die(searched, "sweep-batch")
    told = len(read_events(searched.database, after=mark))
    assert 0 < told < len(gone), "those of a portion are deleted before the next is asked for"
    kept = fetch_scalar(searched.database, "select count(*) from sync.candidates where found")
    searched.nango.calls.reset()
    assert tick(searched) is RunState.SUCCEEDED
    ended = Counter(e["object_id"] for e in read_events(searched.database, after=mark))
    assert ended == Counter(key_of(site) for site in gone)
    assert noted(searched) == []
    assert left(searched) == (0, 0, 0)
    assert found_by_id(searched) == len(gone) - told + len(unlisted) - kept


def key_of(site: str) -> str:
    return site.rpartition(",")[2].lower()


class Searched(Unlisted):
    """A search does not show some sites, which are there by id."""

    def __init__(self, mirror: Mirror, keys: set[str]) -> None:
        super().__init__(mirror, "sites", dict.fromkeys(keys, 200))

    def __call__(self, request: Request) -> Response | None:
        if request.path.endswith("/sites") and "search" in request.query:
            return self._without(request)
        return None


# ---- a worker that is to stop


STOPPED = """
from datetime import datetime, UTC
from models.run import RunTrigger
from worker.core.settings import load_settings
from worker.core.process.shutdown import request_stop
from worker.sync.run import run_slice
from worker.wiring import open_runtime

request_stop()
print(run_slice(open_runtime(load_settings()), 1, trigger=RunTrigger.SCHEDULED).state.value)
"""


def slice_of_a_stopping_worker(mirror: Mirror) -> str:
    """The state of the run after a slice in a process that is to stop."""
    with mirror.database.open_transaction() as db:
        db.exec_driver_sql("update sync.streams set due_at = null")
    settings = mirror.runtime.settings
    url = mirror.database.url.set(drivername="postgresql")
    done = subprocess.run(
        [sys.executable, "-c", STOPPED],
        env={
            **{k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG")},
            "DATABASE_URL": url.render_as_string(hide_password=False),
            "NANGO_HOST": settings.nango_host,
            "NANGO_SECRET_KEY": mirror.nango.key,
            "TENANT_MIRROR_GUARD_PERCENT": str(settings.guard_percent),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout.strip()


def test_a_sweep_ends_soon_when_the_worker_stops_and_the_next_slice_goes_on(
    losing: Mirror,
) -> None:
    mark = read_last_seq(losing.database)
    losing.tenant.expire_delta_tokens()
    sync_users_and_die(losing, "walk-complete")
    assert slice_of_a_stopping_worker(losing) == "running"
    assert deleted_users(losing, mark).total() == DELETION_BATCH
    assert losing.sync().state is RunState.SUCCEEDED
    assert set(deleted_users(losing, mark).values()) == {1}
    assert left(losing) == (0, 0, 0)
    assert_exact(losing.database, losing.tenant)


def test_a_round_is_settled_in_several_slices_when_the_worker_stops(losing: Mirror) -> None:
    mark = read_last_seq(losing.database)
    assert slice_of_a_stopping_worker(losing) == "running"
    assert deleted_users(losing, mark).total() == DELETION_BATCH
    assert left(losing) == (0, 0, GONE - DELETION_BATCH)
    assert losing.sync().state is RunState.SUCCEEDED
    assert set(deleted_users(losing, mark).values()) == {1}
    assert_exact(losing.database, losing.tenant)
