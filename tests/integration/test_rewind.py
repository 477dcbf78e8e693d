"""A restored or promoted database takes history back: consumers are told, and end right."""

import json
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner
from sqlalchemy import text

from models.resources import RESOURCES
from models.sink import SinkStart, SinkStatus
from sandbox.servers import Home, Servers, Supervisor, start_postgres
from sandbox.tenant import KindCounts, Nango, Server, Tenant
from tests.integration.test_relay import RelayEnvironment
from tests.support.consumer import Fold
from tests.support.databases import FAST_SETTINGS
from tests.support.fold import build_source, find_differences, find_missing, read_counters
from tests.support.mirror import (
    OFF,
    MakeSynced,
    Mirror,
    assert_exact,
    fetch_scalar,
    read_last_seq,
)
from tests.support.restore import Restorer
from tests.support.service import wait_until
from worker.core.errors import LeaseLost
from worker.core.settings import load_settings
from worker.delivery.store import admin, sinks
from worker.delivery.store.replay import find_replay_target, move_positions_back
from worker.delivery.store.rewind import rewind_history, rewind_if_restored
from worker.events.epochs import load_epoch, load_epoch_id
from worker.events.event import Position
from worker.events.start import FromSnapshot
from worker.ops.cli.recovered import recovered
from worker.ops.schema.migrate import migrate
from worker.store.engine import Database
from worker.store.lease import open_write_transaction, take_lease
from worker.sync.connections.discover import discover
from worker.sync.plan import SyncRequest
from worker.sync.run import run_to_end
from worker.sync.runtime import Runtime
from worker.wiring import close_runtime, open_runtime


@pytest.fixture
def folder(home: Path) -> Path:
    """Where the server's user may write."""
    made = home / f"dumps-{uuid.uuid4().hex[:8]}"
    made.mkdir()
    made.chmod(0o777)
    return made


@pytest.fixture
def restorer(home: Path, folder: Path) -> Restorer:
    return Restorer(home / "18", folder)


class Consumer:
    """Follows the stream of a sink as anybody downstream would."""

    def __init__(self, ground: RelayEnvironment, name: str = "feed") -> None:
        self.ground, self.name = ground, name
        self.fold = Fold()
        self.read = 0

    def catch_up(self) -> None:
        """Let a relay deliver until the consumer has had all that is committed."""
        with self.ground.relay():
            wait_until(self._has_all, 60)

    def _has_all(self) -> bool:
        database = self.ground.database
        under_way = "select count(*) from events.positions where snapshot is not null"
        with database.open_transaction() as db:
            epoch = load_epoch(db)
        if epoch.rewind_reason or fetch_scalar(database, under_way):
            return False
        known = read_counters(database)
        self.take()
        of = {self.fold.epoch(build_source(one)) for one in known}
        return of == {epoch.id} and not find_missing(self.fold, known)

    def take(self) -> list[dict[str, Any]]:
        """Read what is new in the stream."""
        new = self.ground.received(self.name)[self.read :]
        self.read += len(new)
        self.fold.apply(new)
        return new

    def assert_equal(self) -> None:
        assert self.fold.errors == []
        assert self.fold.gaps == {}
        assert list(find_differences(self.ground.database, self.fold)) == []


def url_of(database: Database) -> str:
    return database.url.set(drivername="postgresql").render_as_string(hide_password=False)


def sync_all(runtime: Runtime) -> None:
    """Follow Nango's list, and sync every connection."""
    discover(runtime.database, runtime.nango, runtime.settings)
    with runtime.database.open_transaction() as db:
        statement = "select id from sync.connections where status = 'active' order by id"
        known = list(db.execute(text(statement)).scalars())
    for one in known:
        now = fetch_scalar(runtime.database, "select clock_timestamp()")
        run_to_end(runtime, one, SyncRequest(now, manual=True))


def go_on(mirror: Mirror, consumer: Consumer) -> Callable[[], None]:
    """What comes after the backup, and consumers see; how the tenants change once more."""
    tenant = mirror.tenant
    passing = tenant.create_user()
    late = Tenant(seed=41, users=9, groups=2, sites=1)
    gone = Tenant(seed=42, users=5, groups=1, sites=1)
    mirror.nango.add_connection("gone", gone)
    discover(mirror.database, mirror.runtime.nango, mirror.runtime.settings)
    mirror.nango.add_connection("late", late)
    tenant.mutate(25)
    sync_all(mirror.runtime)
    consumer.catch_up()
    consumer.assert_equal()

    def meanwhile() -> None:
        tenant.delete_user(passing)
        tenant.mutate(10)
        mirror.nango.remove_connection("gone")

    return meanwhile


def is_rewound(event: dict[str, Any]) -> bool:
    return bool(event["type"] == "tenantmirror.connection.rewound")


def snapshot_of(told: list[dict[str, Any]], source: str) -> list[dict[str, Any]]:
    """What a source got of the newest epoch, up to the end of the snapshot."""
    newest = max(event["epoch"] for event in told)
    mine = [it for it in told if it["source"] == source and it["epoch"] == newest]
    ends = [n for n, it in enumerate(mine) if it["type"].endswith("snapshot_completed")]
    return mine[: ends[0] + 1]


@pytest.mark.parametrize("way", ["restore_new", "restore_over"])
def test_after_a_restored_dump_consumers_end_with_the_tenant(
    way: str, mirror: Mirror, environment: RelayEnvironment, restorer: Restorer
) -> None:
    environment.add()
    consumer = Consumer(environment)
    consumer.catch_up()
    before = consumer.fold.epoch("/connections/1")
    archive = restorer.dump(url_of(mirror.database))
    meanwhile = go_on(mirror, consumer)
    seen = read_last_seq(mirror.database)
    assert consumer.fold.objects("/connections/2", "users")
    assert consumer.fold.objects("/connections/3", "users")
    for database in (mirror.database, environment.database):
        database.close()
    getattr(restorer, way)(url_of(mirror.database), archive)
    assert read_last_seq(mirror.database) < seen, "numbers are given again"
    meanwhile()
    sync_all(mirror.runtime)
    consumer.catch_up()
    consumer.assert_equal()
    assert_exact(mirror.database, mirror.tenant)
    assert consumer.fold.epoch("/connections/1") > before
    assert consumer.fold.objects("/connections/3", "users") == [], "its number is free again"
    statement = "select nango_connection_id from sync.connections where id = 2"
    assert fetch_scalar(mirror.database, statement) == "late", "its number was another customer's"


def test_a_restore_that_leaves_no_sign_is_told_by_the_command(
    mirror: Mirror,
    environment: RelayEnvironment,
    restorer: Restorer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    environment.add()
    consumer = Consumer(environment)
    consumer.catch_up()
    archive = restorer.dump(url_of(mirror.database))
    meanwhile = go_on(mirror, consumer)
    restorer.restore_rows(url_of(mirror.database), archive)
    assert rewind_if_restored(mirror.database) is None
    monkeypatch.setenv("DATABASE_URL", url_of(mirror.database))
    done = CliRunner().invoke(recovered, ["--yes", "--json"], catch_exceptions=False)
    assert done.exit_code == 0
    told = json.loads(done.stdout)
    assert (told["begun"], told["connections"], told["sinks"]) == (True, 1, 1)
    meanwhile()
    sync_all(mirror.runtime)
    consumer.catch_up()
    consumer.assert_equal()
    assert_exact(mirror.database, mirror.tenant)
    assert consumer.fold.epoch("/connections/1") == told["epoch"]


def test_a_snapshot_begins_with_the_rewinding_and_ends_with_a_mark(
    make_synced: MakeSynced, environment: RelayEnvironment
) -> None:
    mirror = make_synced(seed=3, users=60, groups=8, sites=6, kinds=KindCounts.for_users(60))
    environment.add()
    consumer = Consumer(environment)
    consumer.catch_up()
    done = rewind_history(mirror.database)
    with environment.relay():
        wait_until(lambda: environment.received()[-1]["type"].endswith("snapshot_completed"), 30)
    snapshot = snapshot_of(environment.received(), "/connections/1")
    first, *rows, last = snapshot
    assert is_rewound(first)
    assert first["data"]["after"] == {
        "epoch": done.epoch,
        "previous_epoch": done.previous_epoch,
        "reason": done.reason,
        "last_connection": 1,
    }
    assert first["data"]["snapshot"] is False
    assert {it["data"]["snapshot"] for it in (*rows, last)} == {True}
    assert {it["sequence"] for it in snapshot} == {first["sequence"]}
    assert int(first["sequence"]) == read_last_seq(mirror.database)
    resources = list(dict.fromkeys(it["data"]["resource"] for it in rows))
    every = [name for name, one in RESOURCES.items() if one.has_events]
    assert last["data"]["after"] == {"resources": every}
    assert resources == [name for name in every if name not in OFF]


def test_sinks_of_every_status_and_filter_hear_of_it(
    mirror: Mirror, environment: RelayEnvironment
) -> None:
    environment.enrol(1)
    environment.add("people", resources=["users"], start=SinkStart.NOW)
    environment.add("endings", changes=["deleted"], start=SinkStart.NOW)
    environment.add("other", connections=[2], start=SinkStart.NOW)
    environment.add("asleep", status=SinkStatus.PAUSED, start=SinkStart.NOW)
    mirror.tenant.delete_user(mirror.tenant.users.id_at(3))
    mirror.sync()
    rewind_history(mirror.database)
    with environment.database.open_transaction() as db:
        admin.resume_sink(db, "asleep")
    pending = "select count(*) from events.positions where snapshot is not null"
    with environment.relay():
        wait_until(lambda: fetch_scalar(mirror.database, pending) == 0, 30)
        wait_until(lambda: is_rewound(environment.received("endings")[-1]), 30)
    people = [it for it in environment.received("people") if it["data"]["connection_id"] == 1]
    assert [it["data"]["resource"] for it in (people[0], people[-1])] == ["connection"] * 2
    assert {it["data"]["resource"] for it in people[1:-1]} == {"users"}
    assert people[-1]["data"]["after"] == {"resources": ["users"]}
    endings = [it for it in environment.received("endings") if it["data"]["connection_id"] == 1]
    *before, last = endings
    assert is_rewound(last), "it gets no snapshot, and so no end"
    assert "tenantmirror.user.deleted" in {it["type"] for it in before}, "it misses nothing"
    assert {it["source"] for it in environment.received("other")} == {"/connections/2"}
    assert len(environment.received("asleep")) > len(people)


def test_a_relay_from_before_neither_reads_nor_moves_a_position(
    environment: RelayEnvironment,
) -> None:
    (one,) = environment.enrol(1)
    environment.write(one, 5)
    environment.add()
    delivery = environment.claim()
    with environment.database.open_transaction() as connection:
        (found,) = sinks.list_backlogs(connection, delivery.sink)
    rewind_history(environment.database)
    with pytest.raises(LeaseLost, match="a new epoch"):
        list(delivery.reader.read_batches([found], ()))
    ahead = found.position._replace(seq=99)
    with environment.database.open_transaction() as db, pytest.raises(LeaseLost):
        sinks.advance_positions(db, delivery.sink, [ahead], seconds=60)
    delivery.close()


def test_a_relay_reads_nothing_of_a_database_that_was_replaced(
    environment: RelayEnvironment, restorer: Restorer
) -> None:
    (one,) = environment.enrol(1)
    rewind_if_restored(environment.database)
    environment.write(one, 5)
    environment.add()
    archive = restorer.dump(url_of(environment.database))
    delivery = environment.claim()
    environment.write(one, 5)
    restorer.restore_over(url_of(environment.database), archive)
    with environment.database.open_transaction() as db:
        found = sinks.Backlog(Position(one, 0, None), 10, None)
        db.execute(text("update events.sinks set token = :t"), {"t": delivery.sink.token})
    with pytest.raises(LeaseLost, match="the tables were created again"):
        list(delivery.reader.read_batches([found], ()))
    delivery.close()
    assert environment.received() == []


def test_tokens_of_another_history_are_never_given_again(environment: RelayEnvironment) -> None:
    """A process that slept through the restore holds a token that the restored mirror reaches."""
    (one,) = environment.enrol(1)
    environment.add()
    with environment.database.open_transaction() as db:
        lease, _ = take_lease(db, one, 60)
    sink = environment.claim().sink
    rewind_history(environment.database)
    held = {
        "leases": "select token from sync.leases where connection_id = 1",
        "sinks": "select token from events.sinks",
    }
    for statement, token in ((held["leases"], lease.token), (held["sinks"], sink.token)):
        assert fetch_scalar(environment.database, statement) > token + 10**9
    with pytest.raises(LeaseLost), open_write_transaction(environment.database, lease):
        pass
    due = "select due_at <= clock_timestamp() from sync.connections where id = 1"
    assert fetch_scalar(environment.database, due), (
        "the slice that was fenced is begun again at once"
    )


def test_several_processes_notice_and_one_begins_the_epoch(
    mirror: Mirror, environment: RelayEnvironment, restorer: Restorer
) -> None:
    rewind_if_restored(mirror.database)
    archive = restorer.dump(url_of(mirror.database))
    for database in (mirror.database, environment.database):
        database.close()
    restorer.restore_new(url_of(mirror.database), archive)
    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(lambda _: rewind_if_restored(environment.database), range(6)))
    assert sum(one is not None for one in done) == 1
    assert fetch_scalar(mirror.database, "select count(*) from events.epochs") == 2
    assert rewind_if_restored(environment.database) is None


def test_the_first_start_records_the_server_and_rewinds_nothing(mirror: Mirror) -> None:
    with mirror.database.open_transaction() as connection:
        before = load_epoch(connection)
    assert before.has_unrecorded_identity
    assert None not in before.observed
    last = read_last_seq(mirror.database)
    assert rewind_if_restored(mirror.database) is None
    with mirror.database.open_transaction() as db:
        after = load_epoch(db)
    assert (after.id, after.recorded, after.reason) == (before.id, before.observed, None)
    assert read_last_seq(mirror.database) == last


def test_an_ordinary_role_reads_the_signs_and_one_that_may_not_goes_by_the_rest(
    mirror: Mirror, environment: RelayEnvironment
) -> None:
    role = f"plain_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(url_of(mirror.database), autocommit=True) as admin:
        admin.execute(f"create role {role} login password 'x'".encode())
        admin.execute(f"grant usage on schema events, sync to {role}".encode())
        admin.execute(f"grant select on all tables in schema events to {role}".encode())
        url = mirror.database.url.set(username=role, password="x")
        try:
            plain = Database(url.render_as_string(hide_password=False))
            with plain.open_transaction() as connection:
                assert None not in load_epoch(connection).observed
            plain.close()
            admin.execute(b"revoke execute on function pg_control_system() from public")
            admin.execute(b"revoke execute on function pg_current_wal_lsn() from public")
            with plain.open_transaction() as db:
                seen = load_epoch(db).observed
            assert (seen.system_identifier, seen.timeline) == (None, None)
            assert seen.database_oid
            assert seen.events_oid
        finally:
            plain.close()
            admin.execute(b"grant execute on function pg_control_system() to public")
            admin.execute(b"grant execute on function pg_current_wal_lsn() to public")
            admin.execute(f"drop owned by {role}".encode())
            admin.execute(f"drop role {role}".encode())


def test_a_retried_snapshot_still_tells_its_end(
    mirror: Mirror, environment: RelayEnvironment
) -> None:
    """An operator who replays from a snapshot while that of a rewinding is under way."""
    environment.add()
    consumer = Consumer(environment)
    consumer.catch_up()
    rewind_history(mirror.database)
    mirror.tenant.mutate(10)
    mirror.sync()
    with environment.database.open_transaction() as db:
        move_positions_back(db, find_replay_target(db, "feed"), FromSnapshot())
    consumer.catch_up()
    consumer.assert_equal()
    assert environment.received()[-1]["type"].endswith("snapshot_completed")


def test_the_command_asks_and_does_nothing_where_nobody_can_be_asked(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", url_of(mirror.database))
    before = read_last_seq(mirror.database)
    done = CliRunner().invoke(recovered, [])
    assert (done.exit_code, read_last_seq(mirror.database)) == (2, before)
    assert "--yes" in done.stderr
    told = CliRunner().invoke(recovered, ["--help"]).stdout
    assert "tenant-mirror migrate" in told, "help teaches the order"


def test_scripts_may_say_it_again_without_another_epoch(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", url_of(mirror.database))
    found = []
    for options in (["--unless-noticed"], ["--unless-noticed"], []):
        done = CliRunner().invoke(recovered, ["--yes", "--json", *options], catch_exceptions=False)
        assert done.exit_code == 0
        found.append(json.loads(done.stdout))
    assert [one["begun"] for one in found] == [True, False, True]
    assert found[1]["epoch"] == found[0]["epoch"] == found[2]["previous_epoch"]


def test_epochs_rise_and_their_ids_too(mirror: Mirror) -> None:
    found = []
    for _ in range(4):
        with mirror.database.open_transaction() as db:
            found.append(load_epoch_id(db))
        rewind_history(mirror.database)
    assert found == sorted(set(found))
    assert {uuid.UUID(one).version for one in found} == {7}


def test_a_promoted_standby_begins_an_epoch_by_itself(
    home: Path, folder: Path, nango: Nango, nango_server: Server, servers: Servers
) -> None:
    """What the primary had not sent yet is lost; consumers have seen it."""
    restorer, mark = Restorer(home / "18", folder), uuid.uuid4().hex[:8]
    first = Home(home / f"primary-{mark}")
    with first.hold_lock(), Supervisor() as supervisor:
        settings = {**FAST_SETTINGS, "shared_buffers": "16MB"}
        primary = start_postgres(first, supervisor, settings=settings).url
        database = Database(primary)
        migrate(database)
        database.close()
        with restorer.run_standby(primary, home / f"standby-{mark}") as standby:
            check_promotion(restorer, (primary, standby), nango, nango_server, servers)


def check_promotion(
    restorer: Restorer,
    urls: tuple[str, str],
    nango: Nango,
    server: Server,
    servers: Servers,
) -> None:
    primary, standby = urls
    tenant = Tenant(seed=7, users=30, groups=3, sites=2)
    nango.add_connection("contoso", tenant)

    def opened(url: str) -> tuple[Runtime, RelayEnvironment]:
        settings = load_settings(
            database_url=url, nango_host=server.url, nango_secret_key=nango.key, call_seconds=10
        )
        runtime = open_runtime(settings)
        return runtime, RelayEnvironment(runtime, nango, servers.redis_url)

    runtime, environment = opened(primary)
    sync_all(runtime)
    environment.add()
    consumer = Consumer(environment)
    consumer.catch_up()
    reached = fetch_scalar(runtime.database, "select pg_current_wal_insert_lsn()")
    behind = Database(standby)
    wait_until(lambda: fetch_scalar(behind, f"select pg_last_wal_replay_lsn() >= '{reached}'"), 30)
    assert rewind_if_restored(behind) is None, "a standby is left alone"
    restorer.disconnect_standby(standby)
    passing = tenant.create_user()
    tenant.mutate(10)
    sync_all(runtime)
    consumer.catch_up()
    epoch = consumer.fold.epoch("/connections/1")
    close_runtime(runtime)
    environment.database.close()
    fetch_scalar(behind, "select pg_promote()")
    wait_until(lambda: not fetch_scalar(behind, "select pg_is_in_recovery()"), 60)
    behind.close()
    tenant.delete_user(passing)
    runtime, promoted = opened(standby)
    promoted.mark = environment.mark
    consumer.ground = promoted
    sync_all(runtime)
    consumer.catch_up()
    consumer.assert_equal()
    assert_exact(runtime.database, tenant)
    assert consumer.fold.epoch("/connections/1") > epoch
    reason = fetch_scalar(
        runtime.database, "select reason from events.epochs order by id desc limit 1"
    )
    assert "another timeline" in reason
    promoted.database.close()
    close_runtime(runtime)
