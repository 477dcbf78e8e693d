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
from sqlalchemy import insert, text

from models import sink as tables
from models.change_event import ChangeKind
from models.resources import RESOURCES
from models.sink import SinkKind, SinkStart, SinkStatus
from sandbox.tenant import Nango, Tenant
from tests.conftest import Mirror
from tests.support.fault_proxy import FaultProxy
from tests.support.mirror import last_seq, scalar
from tests.support.service import until
from worker.core.errors import Fenced, Halt
from worker.core.settings import Settings
from worker.core.value import SecretStr
from worker.events.ledger import append
from worker.relay.delivery import Delivery
from worker.relay.relay import Relay
from worker.store import sink_admin, sinks
from worker.store.change import Change
from worker.store.engine import Database
from worker.store.lease import interrupting
from worker.sync.discover import discover
from worker.sync.run import Kit

Told = dict[str, Any]
NOBODY = "redis://127.0.0.1:1/0"


class Ground:
    """A database with a Redis beside it, and what a consumer reads there."""

    def __init__(self, kit: Kit, nango: Nango, redis_url: str) -> None:
        self.kit, self.nango = kit, nango
        self.redis_url = redis_url
        self.database = Database(
            kit.database.url.render_as_string(hide_password=False), pool_size=9
        )
        self.settings: Settings = replace(kit.settings, redis_url=SecretStr(redis_url))
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
        with self.database.begin() as connection:
            sink_id = int(connection.execute(statement).scalar_one())
            kept = {"sink_id": sink_id, "secrets": secrets}
            connection.execute(insert(tables.sink_secrets).values(kept))
            sinks.begin(connection, sink_id)
        return sink_id

    def stream(self, name: str = "feed") -> str:
        return f"{self.mark}:{name}"

    def enrol(self, count: int) -> list[int]:
        """Connect some customers; the ids of all there are."""
        begun = len(self.nango.connections)
        for number in range(begun, begun + count):
            tenant = Tenant(seed=number, users=1, groups=0, sites=0)
            self.nango.add_connection(f"customer-{number}", tenant)
        discover(self.kit.database, self.kit.nango, self.kit.settings)
        with self.database.begin() as connection:
            found = connection.execute(text("select id from sync.connections order by id"))
            return list(found.scalars())

    def write(self, connection_id: int, count: int, *, initial: bool = False) -> None:
        """Commit some events of a connection."""
        changes = [
            Change(ChangeKind.CREATED, str(uuid.uuid4()), None, None, b'{"mail": "a@example.com"}')
            for _ in range(count)
        ]
        with interrupting(self.database, connection_id) as tx:
            append(tx, [(RESOURCES["users"], changes)], run_id=None, initial=initial)

    def claim(self) -> Delivery:
        """Become the one who serves the only sink."""
        with self.database.begin() as connection:
            (sink,) = sinks.claim(connection, "test", seconds=60, limit=9)
        return Delivery(self.database, sink, self.settings, Event())

    def deliver(self) -> None:
        """Serve the only sink until nothing waits."""
        delivery = self.claim()
        while delivery.deliver_round():
            pass
        delivery.close()
        with self.database.begin() as connection:
            sinks.release(connection, delivery.sink)

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
        return int(scalar(self.database, statement, id=connection_id) or 0)

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
        with self.database.begin() as connection:
            connection.execute(text("update events.sinks set expires_at = '2000-01-01'"))


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
    return int(scalar(database, statement, rows=json.dumps(rows)))


def test_a_consumer_of_the_stream_ends_with_the_mirror(mirror: Mirror, ground: Ground) -> None:
    ground.add()
    ground.deliver()
    for _ in range(3):
        mirror.tenant.mutate(25)
        mirror.sync()
        ground.deliver()
    told = ground.received()
    assert by_connection(told) == {1: list(range(1, last_seq(mirror.database) + 1))}
    kinds = {event["data"]["after"] is None for event in told}
    assert kinds == {True, False}
    for resource, rows in fold(told).items():
        assert differences(mirror.database, resource, list(rows.values())) == 0, resource


def test_who_is_killed_after_delivery_delivers_again_with_the_same_ids(ground: Ground) -> None:
    (one,) = ground.enrol(1)
    ground.write(one, 50)
    ground.add()
    killed = ground.process(TENANT_MIRROR_CRASH_AT="events-delivered")
    assert killed.wait(30) == -signal.SIGKILL
    assert ground.position(one) == 0
    ground.lapse()
    second = ground.process()
    last = last_seq(ground.database, one)
    until(lambda: ground.position(one) == last)
    second.send_signal(signal.SIGTERM)
    assert second.wait(30) == 0
    told = ground.received()
    ids = [event["id"] for event in told]
    assert ids[:last] == ids[last:]
    assert len(set(ids)) == last
    assert scalar(ground.database, "select count(*) from events.sinks where holder is null") == 1


def test_commits_that_come_late_are_never_skipped(ground: Ground) -> None:
    known = ground.enrol(3)
    ground.add()

    def busy(connection_id: int) -> None:
        for _ in range(25):
            ground.write(connection_id, random.randint(1, 40))

    with ground.relay(), ThreadPoolExecutor(6) as writers:
        for done in [writers.submit(busy, one) for one in known * 2]:
            done.result()
        for one in known:
            last = last_seq(ground.database, one)
            until(lambda one=one, last=last: ground.position(one) == last)  # type: ignore[misc]
    found = by_connection(ground.received())
    assert found == {one: list(range(1, last_seq(ground.database, one) + 1)) for one in known}


def test_large_first_loads_leave_room_for_others(ground: Ground) -> None:
    first, second = ground.enrol(2)
    ground.write(first, 12_000)
    ground.write(second, 3)
    ground.add()
    ground.deliver()
    told = ground.received()
    places = [n for n, it in enumerate(told) if it["data"]["connection_id"] == second]
    assert max(places) < 5_000
    last = {one: last_seq(ground.database, one) for one in (first, second)}
    assert by_connection(told) == {one: list(range(1, seq + 1)) for one, seq in last.items()}


def test_relays_share_sinks_and_take_over_from_one_that_ends(ground: Ground) -> None:
    (one,) = ground.enrol(1)
    names = ["a", "b", "c", "d"]
    for name in names:
        ground.add(name)
    served = "select count(*) from events.sinks where expires_at > clock_timestamp()"
    with ground.relay() as second:
        with ground.relay() as first:
            until(lambda: len(first._serving) + len(second._serving) == 4)
            assert scalar(ground.database, served) == 4
            ground.write(one, 10)
            last = last_seq(ground.database, one)
            until(lambda: all(len(ground.received(name)) == last for name in names))
        until(lambda: len(second._serving) == 4)
        ground.write(one, 10)
        last += 10
        until(lambda: all(len(ground.received(name)) == last for name in names))
    for name in names:
        assert by_connection(ground.received(name)) == {one: list(range(1, last + 1))}


def test_a_relay_that_lost_its_lease_cannot_move_a_position(ground: Ground) -> None:
    (one,) = ground.enrol(1)
    ground.add()
    zombie = ground.claim()
    ground.lapse()
    ground.deliver()
    before = ground.position(one)
    ground.write(one, 5)
    assert zombie.deliver_round() is False, "it is told of no work"
    with ground.database.begin() as connection, pytest.raises(Fenced):
        sinks.advance(connection, zombie.sink, [sinks.Position(one, 99, None)], seconds=60)
    zombie.close()
    assert ground.position(one) == before


def test_a_dead_sink_holds_nobody_else_up(ground: Ground) -> None:
    (one,) = ground.enrol(1)
    ground.write(one, 20)
    ground.add("dead", secrets={"url": NOBODY})
    ground.add("well")
    last = last_seq(ground.database, one)
    with ground.relay():
        until(lambda: len(ground.received("well")) == last)
        failed = "select failures from events.sinks where name = 'dead'"
        until(lambda: scalar(ground.database, failed) >= 1)
    noted = "select status || ' ' || status_reason from events.sinks where name = 'dead'"
    assert scalar(ground.database, noted).startswith("active Redis cannot be used now")
    paused = "select retry_at > clock_timestamp() from events.sinks where name = 'dead'"
    assert scalar(ground.database, paused) is True
    with ground.database.begin() as connection:
        connection.execute(text("update sync.sink_secrets set secrets = '{}'"))
        sink_admin.resume(connection, "dead")
    with ground.relay():
        until(lambda: len(ground.received("dead")) == last)
    assert scalar(ground.database, failed) == 0


def test_a_relay_outlives_the_loss_of_redis_and_of_postgres(ground: Ground) -> None:
    (one,) = ground.enrol(1)
    port = urlsplit(ground.redis_url).port
    assert port is not None
    lost = (
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where datname = current_database() and pid <> pg_backend_pid()"
    )
    with FaultProxy("127.0.0.1", port) as proxy:
        ground.add(secrets={"url": ground.redis_url.replace(f":{port}", f":{proxy.port}")})
        with ground.relay():
            ground.write(one, 20)
            until(lambda: ground.position(one) == last_seq(ground.database, one))
            proxy.refuse()
            proxy.drop()
            ground.write(one, 20)
            until(lambda: scalar(ground.database, "select failures from events.sinks") >= 1)
            proxy.heal()
            with ground.database.begin() as connection:
                connection.execute(text(lost))
            until(lambda: ground.position(one) == last_seq(ground.database, one))
    found = by_connection(ground.received())
    assert sorted(set(found[one])) == list(range(1, last_seq(ground.database, one) + 1))


def test_a_key_that_is_no_stream_is_told_to_the_operator(ground: Ground) -> None:
    (one,) = ground.enrol(1)
    ground.write(one, 1)
    ground.redis.set(ground.stream(), "something else")
    ground.add()
    with ground.relay():
        reason = "select status_reason from events.sinks"
        until(lambda: scalar(ground.database, reason) is not None)
    assert "no stream" in scalar(ground.database, reason)
    assert ground.position(one) == 0


def test_only_what_was_asked_for_is_delivered(mirror: Mirror, ground: Ground) -> None:
    ground.add(resources=["users", "groups"], changes=["created", "updated"], initial=False)
    ground.deliver()
    assert ground.received() == []
    assert ground.position(1) == last_seq(mirror.database), "what is left out counts as delivered"
    mirror.tenant.mutate(40)
    mirror.sync()
    ground.deliver()
    told = ground.received()
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
    assert len(told) == scalar(mirror.database, wanted)


def test_a_sink_of_some_connections_hears_of_no_other(ground: Ground) -> None:
    first, second = ground.enrol(2)
    ground.add(connections=[second], settings={"stream": ground.stream("of-{connection_id}")})
    ground.write(first, 5)
    ground.write(second, 5)
    ground.deliver()
    assert ground.received(f"of-{first}") == []
    assert set(by_connection(ground.received(f"of-{second}"))) == {second}


def test_a_sink_that_begins_now_hears_nothing_of_before(ground: Ground) -> None:
    (one,) = ground.enrol(1)
    ground.write(one, 5)
    mark = last_seq(ground.database, one)
    ground.add(start=SinkStart.NOW)
    ground.write(one, 2)
    ground.deliver()
    assert by_connection(ground.received()) == {one: [mark + 1, mark + 2]}
    _, later = ground.enrol(1)
    ground.write(later, 1)
    ground.deliver()
    last = last_seq(ground.database, later)
    assert by_connection(ground.received())[later] == list(range(1, last + 1))


def test_events_that_retention_dropped_hold_nothing_up(ground: Ground) -> None:
    (one,) = ground.enrol(1)
    ground.write(one, 5)
    ground.add()
    with ground.database.begin() as connection:
        connection.execute(text("delete from events.change_events"))
    ground.deliver()
    assert ground.position(one) == last_seq(ground.database, one)
    ground.write(one, 1)
    ground.deliver()
    assert by_connection(ground.received()) == {one: [last_seq(ground.database, one)]}


def test_a_paused_sink_keeps_its_position(ground: Ground) -> None:
    (one,) = ground.enrol(1)
    ground.add()
    ground.deliver()
    with ground.database.begin() as connection:
        assert sink_admin.pause(connection, "feed") is SinkStatus.ACTIVE
        assert sinks.claim(connection, "test", seconds=60, limit=9) == []
    ground.write(one, 3)
    with ground.database.begin() as connection:
        sink_admin.resume(connection, "feed")
    ground.deliver()
    assert by_connection(ground.received()) == {
        one: list(range(1, last_seq(ground.database, one) + 1))
    }


def test_a_stream_is_kept_to_about_its_length(ground: Ground) -> None:
    (one,) = ground.enrol(1)
    ground.write(one, 3_000)
    ground.add(settings={"stream": ground.stream(), "maxlen": 500})
    ground.deliver()
    assert 500 <= len(ground.received()) < 1_000


def test_a_sink_without_any_redis_says_what_is_missing(ground: Ground) -> None:
    (one,) = ground.enrol(1)
    ground.write(one, 1)
    ground.add()
    ground.settings = ground.kit.settings
    delivery = ground.claim()
    with pytest.raises(Exception, match="REDIS_URL is not set") as fault:
        delivery.deliver_round()
    delivery.close()
    assert isinstance(fault.value.__cause__, Halt)
