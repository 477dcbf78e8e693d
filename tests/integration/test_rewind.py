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

from models.sink import SinkStart, SinkStatus
from sandbox.servers import Home, Servers, Supervisor, start_postgres
from sandbox.tenant import Nango, Server, Tenant
from tests.conftest import FAST, Mirror
from tests.integration.test_relay import Ground
from tests.support.consumer import Fold
from tests.support.folded import counters, missing, source_of, unlike
from tests.support.mirror import assert_exact, last_seq, scalar
from tests.support.restore import Restorer
from tests.support.service import until
from worker.core.beginning import Snapshot
from worker.core.errors import Fenced
from worker.core.settings import load_settings
from worker.events.rewind import follow_server, rewind
from worker.ops.cli.recovered import recovered
from worker.ops.migrate import migrate
from worker.store import sink_admin, sinks
from worker.store.engine import Database
from worker.store.epochs import current_epoch, look
from worker.store.lease import take, writing
from worker.store.replay import replay, target
from worker.sync.discover import discover
from worker.sync.plan import Order
from worker.sync.run import Kit, run_to_end
from worker.wiring import close_kit, open_kit


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

    def __init__(self, ground: Ground, name: str = "feed") -> None:
        self.ground, self.name = ground, name
        self.fold = Fold()
        self.read = 0

    def catch_up(self) -> None:
        """Let a relay deliver until the consumer has had all that is committed."""
        with self.ground.relay():
            until(self._has_all, 60)

    def _has_all(self) -> bool:
        database = self.ground.database
        under_way = "select count(*) from events.positions where snapshot is not null"
        with database.begin() as connection:
            epoch = look(connection)
        if epoch.rewound or scalar(database, under_way):
            return False
        known = counters(database)
        self.take()
        of = {self.fold.epoch(source_of(one)) for one in known}
        return of == {epoch.id} and not missing(self.fold, known)

    def take(self) -> list[dict[str, Any]]:
        """Read what is new in the stream."""
        new = self.ground.received(self.name)[self.read :]
        self.read += len(new)
        self.fold.take(new)
        return new

    def assert_equal(self) -> None:
        assert self.fold.complaints == []
        assert self.fold.lacking == {}
        assert list(unlike(self.ground.database, self.fold)) == []


def url_of(database: Database) -> str:
    return database.url.set(drivername="postgresql").render_as_string(hide_password=False)


def sync_all(kit: Kit) -> None:
    """Follow Nango's list, and sync every connection."""
    discover(kit.database, kit.nango, kit.settings)
    with kit.database.begin() as connection:
        statement = "select id from sync.connections where status = 'active' order by id"
        known = list(connection.execute(text(statement)).scalars())
    for one in known:
        now = scalar(kit.database, "select clock_timestamp()")
        run_to_end(kit, one, Order(now, manual=True))


def go_on(mirror: Mirror, consumer: Consumer) -> Callable[[], None]:
    """What comes after the backup, and consumers see; how the tenants change once more."""
    tenant = mirror.tenant
    passing = tenant.create_user()
    late = Tenant(seed=41, users=9, groups=2, sites=1)
    gone = Tenant(seed=42, users=5, groups=1, sites=1)
    mirror.nango.add_connection("gone", gone)
    discover(mirror.database, mirror.kit.nango, mirror.kit.settings)
    mirror.nango.add_connection("late", late)
    tenant.mutate(25)
    sync_all(mirror.kit)
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
    way: str, mirror: Mirror, ground: Ground, restorer: Restorer
) -> None:
    ground.add()
    consumer = Consumer(ground)
    consumer.catch_up()
    before = consumer.fold.epoch("/connections/1")
    archive = restorer.dump(url_of(mirror.database))
    meanwhile = go_on(mirror, consumer)
    seen = last_seq(mirror.database)
    assert consumer.fold.objects("/connections/2", "users")
    assert consumer.fold.objects("/connections/3", "users")
    for database in (mirror.database, ground.database):
        database.close()
    getattr(restorer, way)(url_of(mirror.database), archive)
    assert last_seq(mirror.database) < seen, "numbers are given again"
    meanwhile()
    sync_all(mirror.kit)
    consumer.catch_up()
    consumer.assert_equal()
    assert_exact(mirror.database, mirror.tenant)
    assert consumer.fold.epoch("/connections/1") > before
    assert consumer.fold.objects("/connections/3", "users") == [], "its number is free again"
    statement = "select nango_connection_id from sync.connections where id = 2"
    assert scalar(mirror.database, statement) == "late", "its number was another customer's"


def test_a_restore_that_leaves_no_sign_is_told_by_the_command(
    mirror: Mirror,
    ground: Ground,
    restorer: Restorer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ground.add()
    consumer = Consumer(ground)
    consumer.catch_up()
    archive = restorer.dump(url_of(mirror.database))
    meanwhile = go_on(mirror, consumer)
    restorer.restore_rows(url_of(mirror.database), archive)
    assert follow_server(mirror.database) is None
    monkeypatch.setenv("DATABASE_URL", url_of(mirror.database))
    done = CliRunner().invoke(recovered, ["--yes", "--json"], catch_exceptions=False)
    assert done.exit_code == 0
    told = json.loads(done.stdout)
    assert (told["begun"], told["connections"], told["sinks"]) == (True, 1, 1)
    meanwhile()
    sync_all(mirror.kit)
    consumer.catch_up()
    consumer.assert_equal()
    assert_exact(mirror.database, mirror.tenant)
    assert consumer.fold.epoch("/connections/1") == told["epoch"]


def test_a_snapshot_begins_with_the_rewinding_and_ends_with_a_mark(
    mirror: Mirror, ground: Ground
) -> None:
    ground.add()
    consumer = Consumer(ground)
    consumer.catch_up()
    done = rewind(mirror.database)
    with ground.relay():
        until(lambda: ground.received()[-1]["type"].endswith("snapshot_completed"), 30)
    snapshot = snapshot_of(ground.received(), "/connections/1")
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
    assert int(first["sequence"]) == last_seq(mirror.database)
    resources = list(dict.fromkeys(it["data"]["resource"] for it in rows))
    assert last["data"]["after"] == {"resources": resources}


def test_sinks_of_every_status_and_filter_hear_of_it(mirror: Mirror, ground: Ground) -> None:
    ground.enrol(1)
    ground.add("people", resources=["users"], start=SinkStart.NOW)
    ground.add("endings", changes=["deleted"], start=SinkStart.NOW)
    ground.add("other", connections=[2], start=SinkStart.NOW)
    ground.add("asleep", status=SinkStatus.PAUSED, start=SinkStart.NOW)
    mirror.tenant.delete_user(mirror.tenant.users.id_at(3))
    mirror.sync()
    rewind(mirror.database)
    with ground.database.begin() as connection:
        sink_admin.resume(connection, "asleep")
    pending = "select count(*) from events.positions where snapshot is not null"
    with ground.relay():
        until(lambda: scalar(mirror.database, pending) == 0, 30)
        until(lambda: is_rewound(ground.received("endings")[-1]), 30)
    people = [it for it in ground.received("people") if it["data"]["connection_id"] == 1]
    assert [it["data"]["resource"] for it in (people[0], people[-1])] == ["connection"] * 2
    assert {it["data"]["resource"] for it in people[1:-1]} == {"users"}
    assert people[-1]["data"]["after"] == {"resources": ["users"]}
    endings = [it for it in ground.received("endings") if it["data"]["connection_id"] == 1]
    *before, last = endings
    assert is_rewound(last), "it gets no snapshot, and so no end"
    assert "tenantmirror.user.deleted" in {it["type"] for it in before}, "it misses nothing"
    assert {it["source"] for it in ground.received("other")} == {"/connections/2"}
    assert len(ground.received("asleep")) > len(people)


def test_a_relay_from_before_neither_reads_nor_moves_a_position(ground: Ground) -> None:
    (one,) = ground.enrol(1)
    ground.write(one, 5)
    ground.add()
    delivery = ground.claim()
    with ground.database.begin() as connection:
        (found,) = sinks.waiting(connection, delivery.sink)
    rewind(ground.database)
    with pytest.raises(Fenced, match="another epoch"):
        list(delivery.reader.reads([found], ()))
    ahead = found.position._replace(seq=99)
    with ground.database.begin() as connection, pytest.raises(Fenced):
        sinks.advance(connection, delivery.sink, [ahead], seconds=60)
    delivery.close()


def test_a_relay_reads_nothing_of_a_database_that_was_replaced(
    ground: Ground, restorer: Restorer
) -> None:
    (one,) = ground.enrol(1)
    follow_server(ground.database)
    ground.write(one, 5)
    ground.add()
    archive = restorer.dump(url_of(ground.database))
    delivery = ground.claim()
    ground.write(one, 5)
    restorer.restore_over(url_of(ground.database), archive)
    with ground.database.begin() as connection:
        found = sinks.Waiting(sinks.Position(one, 0, None), 10, None)
        connection.execute(text("update events.sinks set token = :t"), {"t": delivery.sink.token})
    with pytest.raises(Fenced, match="the tables were created again"):
        list(delivery.reader.reads([found], ()))
    delivery.close()
    assert ground.received() == []


def test_tokens_of_another_history_are_never_given_again(ground: Ground) -> None:
    """A process that slept through the restore holds a token that the restored mirror reaches."""
    (one,) = ground.enrol(1)
    ground.add()
    with ground.database.begin() as connection:
        lease, _ = take(connection, one, 60)
    sink = ground.claim().sink
    rewind(ground.database)
    held = {
        "leases": "select token from sync.leases where connection_id = 1",
        "sinks": "select token from events.sinks",
    }
    for statement, token in ((held["leases"], lease.token), (held["sinks"], sink.token)):
        assert scalar(ground.database, statement) > token + 10**9
    with pytest.raises(Fenced), writing(ground.database, lease):
        pass
    due = "select due_at <= clock_timestamp() from sync.connections where id = 1"
    assert scalar(ground.database, due), "the slice that was fenced is begun again at once"


def test_several_processes_notice_and_one_begins_the_epoch(
    mirror: Mirror, ground: Ground, restorer: Restorer
) -> None:
    follow_server(mirror.database)
    archive = restorer.dump(url_of(mirror.database))
    for database in (mirror.database, ground.database):
        database.close()
    restorer.restore_new(url_of(mirror.database), archive)
    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(lambda _: follow_server(ground.database), range(6)))
    assert sum(one is not None for one in done) == 1
    assert scalar(mirror.database, "select count(*) from events.epochs") == 2
    assert follow_server(ground.database) is None


def test_the_first_start_records_the_server_and_rewinds_nothing(mirror: Mirror) -> None:
    with mirror.database.begin() as connection:
        before = look(connection)
    assert before.is_new
    assert None not in before.seen
    last = last_seq(mirror.database)
    assert follow_server(mirror.database) is None
    with mirror.database.begin() as connection:
        after = look(connection)
    assert (after.id, after.recorded, after.reason) == (before.id, before.seen, None)
    assert last_seq(mirror.database) == last


def test_an_ordinary_role_reads_the_signs_and_one_that_may_not_goes_by_the_rest(
    mirror: Mirror, ground: Ground
) -> None:
    role = f"plain_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(url_of(mirror.database), autocommit=True) as admin:
        admin.execute(f"create role {role} login password 'x'".encode())
        admin.execute(f"grant usage on schema events, sync to {role}".encode())
        admin.execute(f"grant select on all tables in schema events to {role}".encode())
        url = mirror.database.url.set(username=role, password="x")
        try:
            plain = Database(url.render_as_string(hide_password=False))
            with plain.begin() as connection:
                assert None not in look(connection).seen
            plain.close()
            admin.execute(b"revoke execute on function pg_control_system() from public")
            admin.execute(b"revoke execute on function pg_current_wal_lsn() from public")
            with plain.begin() as connection:
                seen = look(connection).seen
            assert (seen.system_identifier, seen.timeline) == (None, None)
            assert seen.database_oid
            assert seen.events_oid
        finally:
            plain.close()
            admin.execute(b"grant execute on function pg_control_system() to public")
            admin.execute(b"grant execute on function pg_current_wal_lsn() to public")
            admin.execute(f"drop owned by {role}".encode())
            admin.execute(f"drop role {role}".encode())


def test_a_retried_snapshot_still_tells_its_end(mirror: Mirror, ground: Ground) -> None:
    """An operator who replays from a snapshot while that of a rewinding is under way."""
    ground.add()
    consumer = Consumer(ground)
    consumer.catch_up()
    rewind(mirror.database)
    mirror.tenant.mutate(10)
    mirror.sync()
    with ground.database.begin() as connection:
        replay(connection, target(connection, "feed"), Snapshot())
    consumer.catch_up()
    consumer.assert_equal()
    assert ground.received()[-1]["type"].endswith("snapshot_completed")


def test_the_command_asks_and_does_nothing_where_nobody_can_be_asked(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", url_of(mirror.database))
    before = last_seq(mirror.database)
    done = CliRunner().invoke(recovered, [])
    assert (done.exit_code, last_seq(mirror.database)) == (2, before)
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
        with mirror.database.begin() as connection:
            found.append(current_epoch(connection))
        rewind(mirror.database)
    assert found == sorted(set(found))
    assert {uuid.UUID(one).version for one in found} == {7}


def test_a_promoted_standby_begins_an_epoch_by_itself(
    home: Path, folder: Path, nango: Nango, _shared_server: Server, servers: Servers
) -> None:
    """What the primary had not sent yet is lost; consumers have seen it."""
    restorer, mark = Restorer(home / "18", folder), uuid.uuid4().hex[:8]
    first = Home(home / f"primary-{mark}")
    with first.locked(), Supervisor() as supervisor:
        settings = {**FAST, "shared_buffers": "16MB"}
        primary = start_postgres(first, supervisor, settings=settings).url
        database = Database(primary)
        migrate(database)
        database.close()
        with restorer.standby(primary, home / f"standby-{mark}") as standby:
            check_promotion(restorer, (primary, standby), nango, _shared_server, servers)


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

    def opened(url: str) -> tuple[Kit, Ground]:
        settings = load_settings(
            database_url=url, nango_host=server.url, nango_secret_key=nango.key, call_seconds=10
        )
        kit = open_kit(settings)
        return kit, Ground(kit, nango, servers.redis_url)

    kit, ground = opened(primary)
    sync_all(kit)
    ground.add()
    consumer = Consumer(ground)
    consumer.catch_up()
    reached = scalar(kit.database, "select pg_current_wal_lsn()")
    behind = Database(standby)
    until(lambda: scalar(behind, f"select pg_last_wal_replay_lsn() >= '{reached}'"), 30)
    assert follow_server(behind) is None, "a standby is left alone"
    restorer.cut_off(standby)
    passing = tenant.create_user()
    tenant.mutate(10)
    sync_all(kit)
    consumer.catch_up()
    epoch = consumer.fold.epoch("/connections/1")
    close_kit(kit)
    ground.database.close()
    scalar(behind, "select pg_promote()")
    until(lambda: not scalar(behind, "select pg_is_in_recovery()"), 60)
    behind.close()
    tenant.delete_user(passing)
    kit, promoted = opened(standby)
    promoted.mark = ground.mark
    consumer.ground = promoted
    sync_all(kit)
    consumer.catch_up()
    consumer.assert_equal()
    assert_exact(kit.database, tenant)
    assert consumer.fold.epoch("/connections/1") > epoch
    reason = scalar(kit.database, "select reason from events.epochs order by id desc limit 1")
    assert "another timeline" in reason
    promoted.database.close()
    close_kit(kit)
