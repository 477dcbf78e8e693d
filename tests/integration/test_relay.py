"""Change events reach a Redis stream: all of them, in order, whoever dies on the way."""

import json
import os
import random
import signal
import subprocess
import sys
import uuid
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from threading import Event, Thread
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from msgspec import structs
from sqlalchemy import insert, text

from models import sink as tables
from models.change_event import ChangeKind
from models.resources import RESOURCES
from models.sink import SinkKind, SinkStart, SinkStatus
from sandbox.tenant import Nango, Tenant
from tests.support.fault_proxy import FaultProxy
from tests.support.mirror import Mirror, fetch_scalar, read_last_seq
from tests.support.service import wait_until
from worker.core.errors import LeaseLost, SinkMisconfigured
from worker.core.secret import SecretStr
from worker.core.settings import Settings
from worker.delivery.deliver import Delivery
from worker.delivery.relay import Relay
from worker.delivery.store import admin, sinks
from worker.events.append import append_events
from worker.events.event import Position
from worker.store.engine import Database
from worker.store.lease import interrupt_writer
from worker.store.mirror.change import Change
from worker.sync.connections.discover import discover
from worker.sync.runtime import Runtime

Told = dict[str, Any]
NOBODY = "redis://127.0.0.1:1/0"


class RelayEnvironment:
    """A database with a Redis beside it, and what a consumer reads there."""

    def __init__(self, runtime: Runtime, nango: Nango, redis_url: str) -> None:
        self.runtime, self.nango = runtime, nango
        self.redis_url = redis_url
        self.database = Database(
            runtime.database.url.render_as_string(hide_password=False), pool_size=9
        )
        self.settings: Settings = structs.replace(runtime.settings, redis_url=SecretStr(redis_url))
        self.redis: Any = redis.Redis.from_url(redis_url)
        self.mark = uuid.uuid4().hex[:8]

    def add(self, name: str = "feed", **more: Any) -> int:
        """A sink that begins with the oldest event, with a stream of its own."""
        values = {
            "name": name,
            "kind": SinkKind.REDIS_STREAM,
            "settings": {"stream": self.stream(name)},
            "start": SinkStart.OLDEST,
            **more,
        }
        secrets = values.pop("secrets", {})
        statement = insert(tables.sinks).values(values).returning(tables.sinks.c.id)
        with self.database.open_transaction() as db:
            sink_id = int(db.execute(statement).scalar_one())
            kept = {"sink_id": sink_id, "secrets": secrets}
            db.execute(insert(tables.sink_secrets).values(kept))
            sinks.write_start_positions(db, sink_id)
        return sink_id

    def stream(self, name: str = "feed") -> str:
        return f"{self.mark}:{name}"

    def enrol(self, count: int) -> list[int]:
        """Connect some customers; the ids of all there are."""
        begun = len(self.nango.connections)
        for number in range(begun, begun + count):
            tenant = Tenant(seed=number, users=1, groups=0, sites=0)
            self.nango.add_connection(f"customer-{number}", tenant)
        discover(self.runtime.database, self.runtime.nango, self.runtime.settings)
        with self.database.open_transaction() as db:
            found = db.execute(text("select id from sync.connections order by id"))
            return list(found.scalars())

    def write(self, connection_id: int, count: int, *, initial: bool = False) -> None:
        """Commit some events of a connection."""
        changes = [
            Change(ChangeKind.CREATED, str(uuid.uuid4()), None, None, b'{"mail": "a@example.com"}')
            for _ in range(count)
        ]
        with interrupt_writer(self.database, connection_id) as tx:
            append_events(tx, [(RESOURCES["users"], changes)], run_id=None, initial=initial)

    def claim(self) -> Delivery:
        """Become the one who serves the only sink."""
        with self.database.open_transaction() as db:
            (sink,) = sinks.claim_sinks(db, "test", seconds=60, limit=9)
        return Delivery(self.database, sink, self.settings, Event())

    def deliver(self) -> None:
        """Serve the only sink until nothing waits."""
        delivery = self.claim()
        while delivery.deliver_round():
            pass
        delivery.close()
        with self.database.open_transaction() as db:
            sinks.release_sink(db, delivery.sink)

    def received(self, name: str = "feed") -> list[Told]:
        """All entries of a stream, doubles and all."""
        told = []
        for _, entry in self.redis.xrange(self.stream(name)):
            event = json.loads(entry[b"event"])
            assert entry[b"id"].decode() == event["id"]
            told.append(event)
        return told

    def position(self, connection_id: int) -> int:
        statement = "select max(seq) from events.positions where connection_id = :id"
        return int(fetch_scalar(self.database, statement, id=connection_id) or 0)

    @contextmanager
    def relay(self) -> Iterator[Relay]:
        """A relay at work, in a thread."""
        stop, relay = Event(), Relay(self.database, self.settings)
        thread = Thread(target=relay.run, args=(stop,))
        thread.start()
        try:
            yield relay
        finally:
            stop.set()
            thread.join()

    def process(self, **more: str) -> "subprocess.Popen[bytes]":
        """A relay as it runs in production."""
        environment = {
            **os.environ,
            "DATABASE_URL": self.database.url.render_as_string(hide_password=False).replace(
                "postgresql+psycopg", "postgresql"
            ),
            "REDIS_URL": self.redis_url,
            **more,
        }
        command = [sys.executable, "-c", "from worker.ops.cli import main; main()", "relay"]
        return subprocess.Popen(command, env=environment)

    def lapse(self) -> None:
        """The leases of whoever died."""
        with self.database.open_transaction() as db:
            db.execute(text("update events.sinks set expires_at = '2000-01-01'"))


def by_connection(told: list[Told]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = defaultdict(list)
    for event in told:
        found[event["data"]["connection_id"]].append(int(event["sequence"]))
    return found


def fold(told: list[Told]) -> dict[str, dict[str, Told]]:
    """What a consumer holds that has seen some events: rows by resource and key."""
    held: dict[str, dict[str, Told]] = {name: {} for name in RESOURCES}
    for event in told:
        data = event["data"]
        if data["resource"] == "connection":
            continue
        rows, key = held[data["resource"]], event["subject"]
        if event["data"]["after"] is None:
            del rows[key]
        else:
            rows[key] = {**rows.get(key, {}), **data["key"], **data["after"]}
    return held


def differences(database: Database, resource: str, rows: list[Told]) -> int:
    """How many rows are in one of the two only: what was folded, and the live rows."""
    columns = ", ".join(f'"{name}"' for name in RESOURCES[resource].column_names)
    folded = (
        f"select {columns} from jsonb_populate_recordset(null::directory.{resource},"
        " cast(:rows as jsonb))"
    )
    live = f"select {columns} from directory.{resource} where deleted_at is null"
    statement = (
        f"select count(*) from (({folded} except {live}) union all ({live} except {folded})) as d"
    )
    return int(fetch_scalar(database, statement, rows=json.dumps(rows)))


def test_a_consumer_of_the_stream_ends_with_the_mirror(
    mirror: Mirror, environment: RelayEnvironment
) -> None:
    environment.add()
    environment.deliver()
    for _ in range(3):
        mirror.tenant.mutate(25)
        mirror.sync()
        environment.deliver()
    told = environment.received()
    assert by_connection(told) == {1: list(range(1, read_last_seq(mirror.database) + 1))}
    kinds = {event["data"]["after"] is None for event in told}
    assert kinds == {True, False}
    for resource, rows in fold(told).items():
        assert differences(mirror.database, resource, list(rows.values())) == 0, resource


def test_who_is_killed_after_delivery_delivers_again_with_the_same_ids(
    environment: RelayEnvironment,
) -> None:
    (one,) = environment.enrol(1)
    environment.write(one, 50)
    environment.add()
    killed = environment.process(TENANT_MIRROR_CRASH_AT="events-delivered")
    assert killed.wait(30) == -signal.SIGKILL
    assert environment.position(one) == 0
    environment.lapse()
    second = environment.process()
    last = read_last_seq(environment.database, one)
    wait_until(lambda: environment.position(one) == last)
    second.send_signal(signal.SIGTERM)
    assert second.wait(30) == 0
    told = environment.received()
    ids = [event["id"] for event in told]
    assert ids[:last] == ids[last:]
    assert len(set(ids)) == last
    assert (
        fetch_scalar(environment.database, "select count(*) from events.sinks where holder is null")
        == 1
    )


def test_commits_that_come_late_are_never_skipped(environment: RelayEnvironment) -> None:
    known = environment.enrol(3)
    environment.add()

    def busy(connection_id: int) -> None:
        for _ in range(25):
            environment.write(connection_id, random.randint(1, 40))

    with environment.relay(), ThreadPoolExecutor(6) as writers:
        for done in [writers.submit(busy, one) for one in known * 2]:
            done.result()
        for one in known:
            last = read_last_seq(environment.database, one)
            wait_until(lambda one=one, last=last: environment.position(one) == last)  # type: ignore[misc]
    found = by_connection(environment.received())
    assert found == {
        one: list(range(1, read_last_seq(environment.database, one) + 1)) for one in known
    }


def test_large_first_loads_leave_room_for_others(environment: RelayEnvironment) -> None:
    first, second = environment.enrol(2)
    environment.write(first, 12_000)
    environment.write(second, 3)
    environment.add()
    environment.deliver()
    told = environment.received()
    places = [n for n, it in enumerate(told) if it["data"]["connection_id"] == second]
    assert max(places) < 5_000
    last = {one: read_last_seq(environment.database, one) for one in (first, second)}
    assert by_connection(told) == {one: list(range(1, seq + 1)) for one, seq in last.items()}


def test_relays_share_sinks_and_take_over_from_one_that_ends(environment: RelayEnvironment) -> None:
    (one,) = environment.enrol(1)
    names = ["a", "b", "c", "d"]
    for name in names:
        environment.add(name)
    served = "select count(*) from events.sinks where expires_at > clock_timestamp()"
    with environment.relay() as second:
        with environment.relay() as first:
            wait_until(lambda: len(first._running) + len(second._running) == 4)
            assert fetch_scalar(environment.database, served) == 4
            environment.write(one, 10)
            last = read_last_seq(environment.database, one)
            wait_until(lambda: all(len(environment.received(name)) == last for name in names))
        wait_until(lambda: len(second._running) == 4)
        environment.write(one, 10)
        last += 10
        wait_until(lambda: all(len(environment.received(name)) == last for name in names))
    for name in names:
        assert by_connection(environment.received(name)) == {one: list(range(1, last + 1))}


def test_a_relay_that_lost_its_lease_cannot_move_a_position(environment: RelayEnvironment) -> None:
    (one,) = environment.enrol(1)
    environment.add()
    zombie = environment.claim()
    environment.lapse()
    environment.deliver()
    before = environment.position(one)
    environment.write(one, 5)
    assert zombie.deliver_round() is False, "it is told of no work"
    with environment.database.open_transaction() as db, pytest.raises(LeaseLost):
        sinks.advance_positions(db, zombie.sink, [Position(one, 99, None)], seconds=60)
    zombie.close()
    assert environment.position(one) == before


def test_a_dead_sink_holds_nobody_else_up(environment: RelayEnvironment) -> None:
    (one,) = environment.enrol(1)
    environment.write(one, 20)
    environment.add("dead", secrets={"url": NOBODY})
    environment.add("well")
    last = read_last_seq(environment.database, one)
    with environment.relay():
        wait_until(lambda: len(environment.received("well")) == last)
        failed = "select failures from events.sinks where name = 'dead'"
        wait_until(lambda: fetch_scalar(environment.database, failed) >= 1)
    noted = "select status || ' ' || status_reason from events.sinks where name = 'dead'"
    assert fetch_scalar(environment.database, noted).startswith(
        "active the Redis of the url of sink 'dead' is unavailable"
    )
    paused = "select retry_at > clock_timestamp() from events.sinks where name = 'dead'"
    assert fetch_scalar(environment.database, paused) is True
    with environment.database.open_transaction() as db:
        db.execute(text("update sync.sink_secrets set secrets = '{}'"))
        admin.resume_sink(db, "dead")
    with environment.relay():
        wait_until(lambda: len(environment.received("dead")) == last)
    assert fetch_scalar(environment.database, failed) == 0


def test_a_relay_outlives_the_loss_of_redis_and_of_postgres(environment: RelayEnvironment) -> None:
    (one,) = environment.enrol(1)
    port = urlsplit(environment.redis_url).port
    assert port is not None
    lost = (
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where datname = current_database() and pid <> pg_backend_pid()"
    )
    with FaultProxy("127.0.0.1", port) as proxy:
        environment.add(
            secrets={"url": environment.redis_url.replace(f":{port}", f":{proxy.port}")}
        )
        with environment.relay():
            environment.write(one, 20)
            wait_until(
                lambda: environment.position(one) == read_last_seq(environment.database, one)
            )
            proxy.refuse()
            proxy.drop()
            environment.write(one, 20)
            wait_until(
                lambda: fetch_scalar(environment.database, "select failures from events.sinks") >= 1
            )
            proxy.heal()
            with environment.database.open_transaction() as db:
                db.execute(text(lost))
            wait_until(
                lambda: environment.position(one) == read_last_seq(environment.database, one)
            )
    found = by_connection(environment.received())
    assert sorted(set(found[one])) == list(range(1, read_last_seq(environment.database, one) + 1))


def test_a_key_that_is_no_stream_is_told_to_the_operator(environment: RelayEnvironment) -> None:
    (one,) = environment.enrol(1)
    environment.write(one, 1)
    environment.redis.set(environment.stream(), "something else")
    environment.add()
    with environment.relay():
        reason = "select status_reason from events.sinks"
        wait_until(lambda: fetch_scalar(environment.database, reason) is not None)
    assert "not a stream" in fetch_scalar(environment.database, reason)
    assert environment.position(one) == 0


def test_only_what_was_asked_for_is_delivered(
    mirror: Mirror, environment: RelayEnvironment
) -> None:
    environment.add(resources=["users", "groups"], changes=["created", "updated"], initial=False)
    environment.deliver()
    assert environment.received() == []
    assert environment.position(1) == read_last_seq(mirror.database), (
        "what is left out counts as delivered"
    )
    mirror.tenant.mutate(40)
    mirror.sync()
    environment.deliver()
    told = environment.received()
    types = {event["type"] for event in told}
    assert types
    assert types <= {
        f"tenantmirror.{noun}.{verb}"
        for noun in ("user", "group")
        for verb in ("created", "updated")
    }
    assert not any(event["data"]["initial"] for event in told)
    wanted = (
        "select count(*) from events.change_events where not initial"
        " and resource in ('users', 'groups') and change in ('created', 'updated')"
    )
    assert len(told) == fetch_scalar(mirror.database, wanted)


def test_a_sink_of_some_connections_hears_of_no_other(environment: RelayEnvironment) -> None:
    first, second = environment.enrol(2)
    environment.add(
        connections=[second], settings={"stream": environment.stream("of-{connection_id}")}
    )
    environment.write(first, 5)
    environment.write(second, 5)
    environment.deliver()
    assert environment.received(f"of-{first}") == []
    assert set(by_connection(environment.received(f"of-{second}"))) == {second}


def test_a_sink_that_begins_now_hears_nothing_of_before(environment: RelayEnvironment) -> None:
    (one,) = environment.enrol(1)
    environment.write(one, 5)
    mark = read_last_seq(environment.database, one)
    environment.add(start=SinkStart.NOW)
    environment.write(one, 2)
    environment.deliver()
    assert by_connection(environment.received()) == {one: [mark + 1, mark + 2]}
    _, later = environment.enrol(1)
    environment.write(later, 1)
    environment.deliver()
    last = read_last_seq(environment.database, later)
    assert by_connection(environment.received())[later] == list(range(1, last + 1))


def test_events_that_retention_dropped_hold_nothing_up(environment: RelayEnvironment) -> None:
    (one,) = environment.enrol(1)
    environment.write(one, 5)
    environment.add()
    with environment.database.open_transaction() as db:
        db.execute(text("delete from events.change_events"))
    environment.deliver()
    assert environment.position(one) == read_last_seq(environment.database, one)
    environment.write(one, 1)
    environment.deliver()
    assert by_connection(environment.received()) == {
        one: [read_last_seq(environment.database, one)]
    }


def test_a_paused_sink_keeps_its_position(environment: RelayEnvironment) -> None:
    (one,) = environment.enrol(1)
    environment.add()
    environment.deliver()
    with environment.database.open_transaction() as connection:
        assert admin.pause_sink(connection, "feed") is SinkStatus.ACTIVE
        assert sinks.claim_sinks(connection, "test", seconds=60, limit=9) == []
    environment.write(one, 3)
    with environment.database.open_transaction() as db:
        admin.resume_sink(db, "feed")
    environment.deliver()
    assert by_connection(environment.received()) == {
        one: list(range(1, read_last_seq(environment.database, one) + 1))
    }


def test_a_stream_is_kept_to_about_its_length(environment: RelayEnvironment) -> None:
    (one,) = environment.enrol(1)
    environment.write(one, 3_000)
    environment.add(settings={"stream": environment.stream(), "maxlen": 500})
    environment.deliver()
    assert 500 <= len(environment.received()) < 1_000


def test_a_sink_without_any_redis_says_what_is_missing(environment: RelayEnvironment) -> None:
    (one,) = environment.enrol(1)
    environment.write(one, 1)
    environment.add()
    environment.settings = environment.runtime.settings
    delivery = environment.claim()
    with pytest.raises(Exception, match="REDIS_URL is not set") as fault:
        delivery.deliver_round()
    delivery.close()
    assert isinstance(fault.value.__cause__, SinkMisconfigured)


def test_a_sink_that_is_looked_up_is_the_sink_that_is_claimed(
    environment: RelayEnvironment,
) -> None:
    (connection_id,) = environment.enrol(1)
    environment.add(resources=["users"], changes=["created"], connections=[connection_id])
    with environment.database.open_transaction() as db:
        looked_up = admin.find_sink(db, "feed")
        (claimed,) = sinks.claim_sinks(db, "test", seconds=60, limit=9)
    assert not looked_up.wants_all
    assert replace(looked_up, token=claimed.token) == claimed
