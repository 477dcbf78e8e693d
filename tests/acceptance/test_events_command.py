"""Looking at events and delivering them again, as people and scripts do it."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from msgspec import structs
from sqlalchemy import text

from models.change_event import ChangeKind
from models.resources import RESOURCES
from sandbox.servers import Servers
from sandbox.tenant import Nango, Tenant
from tests.support.fault_proxy import FaultProxy
from tests.support.fork_server import COMMAND, run_command
from tests.support.mirror import Mirror, fetch_scalar, read_last_seq
from tests.support.service import wait_until
from worker.core.errors import LeaseLost
from worker.core.secret import SecretStr
from worker.delivery.relay import Relay
from worker.delivery.store import sinks
from worker.delivery.store.admin import list_sinks
from worker.events.append import append_events
from worker.events.event import Position
from worker.store.engine import Database
from worker.store.lease import interrupt_writer
from worker.store.mirror.change import Change
from worker.sync.connections.discover import discover
from worker.sync.runtime import Runtime

Done = subprocess.CompletedProcess[str]
LINE = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  (?P<owner>.{20}) +(?P<seq>\d+) (?P<resource>\S+) +"
    r"(?P<change>\S+)(?P<rest>.*)"
)


class Following:
    """A tail that goes on, in a process of its own."""

    def __init__(self, arguments: tuple[str, ...], environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "events", "tail", "--follow", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._rest = b""

    def line(self, seconds: float = 30) -> str:
        """The next line; fails where none comes."""
        assert self.process.stdout is not None
        end = time.monotonic() + seconds
        while b"\n" not in self._rest:
            ready, _, _ = select.select([self.process.stdout], [], [], end - time.monotonic())
            assert ready, "no line came"
            read = os.read(self.process.stdout.fileno(), 65_536)
            assert read, f"it ended: {self.process.communicate()[1].decode()}"
            self._rest += read
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()

    def events(self, number: int) -> list[tuple[int, int]]:
        """The connection and sequence of the next few envelopes."""
        told = [json.loads(self.line()) for _ in range(number)]
        return [(int(event["partitionkey"]), int(event["sequence"])) for event in told]

    def interrupt(self) -> tuple[int, float, str]:
        """Ctrl-C: the exit code, how long it took, and what was said on standard error."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        _, said = self.process.communicate(timeout=30)
        return self.process.returncode, time.monotonic() - began, said.decode()


class EventsEnvironment:
    """Some customers with events, a Redis, and the command line."""

    def __init__(self, runtime: Runtime, nango: Nango, database_url: str, redis_url: str) -> None:
        self.runtime, self.nango = runtime, nango
        self.database = Database(database_url, pool_size=9)
        self.redis: Any = redis.Redis.from_url(redis_url)
        self.redis_url = redis_url
        self.stream = f"test:{uuid.uuid4().hex[:8]}"
        self.following: list[Following] = []
        kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG")}
        self.environment = {**kept, "DATABASE_URL": database_url, "REDIS_URL": redis_url}

    def run(self, *arguments: str, **environment: str) -> Done:
        """Runs tenant-mirror as a process of its own."""
        return run_command(arguments, {**self.environment, **environment})

    def tail(self, *arguments: str) -> list[str]:
        done = self.run("events", "tail", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    def told(self, *arguments: str) -> list[tuple[int, int]]:
        """The connection and sequence of each event that a tail tells."""
        events = [json.loads(line) for line in self.tail("--json", *arguments)]
        return [(int(event["partitionkey"]), int(event["sequence"])) for event in events]

    def follow(self, *arguments: str, **environment: str) -> Following:
        self.following.append(Following(arguments, {**self.environment, **environment}))
        return self.following[-1]

    def enrol(self, count: int) -> list[int]:
        """Connect some customers, each with one event; the ids of all there are."""
        begun = len(self.nango.connections)
        for number in range(begun, begun + count):
            tenant = Tenant(seed=number, users=1, groups=0, sites=0)
            self.nango.add_connection(f"customer-{number}", tenant)
        discover(self.runtime.database, self.runtime.nango, self.runtime.settings)
        with self.database.open_transaction() as db:
            found = db.execute(text("select id from sync.connections order by id"))
            return list(found.scalars())

    @contextmanager
    def writing(
        self, connection_id: int, count: int, kind: ChangeKind = ChangeKind.CREATED
    ) -> Iterator[None]:
        """Some events of a connection, committed at the end of the block."""
        changes = [
            Change(kind, str(uuid.uuid4()), None, None, b'{"mail": "a@example.com"}')
            for _ in range(count)
        ]
        with interrupt_writer(self.database, connection_id) as tx:
            append_events(tx, [(RESOURCES["users"], changes)], run_id=None)
            yield

    def write(self, connection_id: int, count: int, **more: Any) -> None:
        with self.writing(connection_id, count, **more):
            pass

    def add(self, *options: str) -> None:
        """A sink that begins with the oldest event."""
        kind = ("--kind", "redis-stream", "--stream", self.stream, "--from", "oldest")
        done = self.run("sinks", "add", "feed", *kind, *options)
        assert done.returncode == 0, done.stderr

    @contextmanager
    def relay(self) -> Iterator[None]:
        """A relay at work, in a thread."""
        settings = structs.replace(self.runtime.settings, redis_url=SecretStr(self.redis_url))
        stop = Event()
        thread = Thread(target=Relay(self.database, settings).run, args=(stop,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def deliver(self) -> None:
        """Have a relay deliver all there is."""
        with self.relay():
            wait_until(lambda: self.waiting() == 0)

    def waiting(self) -> int:
        with self.database.open_transaction() as db:
            return int(list_sinks(db, "feed")[0]["waiting"])

    def received(self) -> list[bytes]:
        """The envelopes in the stream, doubles and all."""
        return [entry[b"event"] for _, entry in self.redis.xrange(self.stream)]

    def positions(self) -> dict[int, int]:
        with self.database.open_transaction() as db:
            found = db.execute(text("select connection_id, seq from events.positions"))
            return {row[0]: row[1] for row in found}

    def replay(self, *arguments: str) -> Done:
        return self.run("events", "replay", "feed", *arguments)

    def close(self) -> None:
        for one in self.following:
            with one.process:
                one.process.kill()
        self.redis.delete(self.stream)
        self.redis.close()
        self.database.close()


@pytest.fixture
def environment(
    runtime: Runtime, nango: Nango, database_url: str, servers: Servers
) -> Iterator[EventsEnvironment]:
    made = EventsEnvironment(runtime, nango, database_url, servers.redis_url)
    yield made
    made.close()


def spelt(line: str) -> re.Match[str]:
    found = LINE.fullmatch(line)
    assert found, line
    return found


def test_the_last_events_are_told_in_order_with_names(
    mirror: Mirror, environment: EventsEnvironment
) -> None:
    mirror.tenant.mutate(30)
    mirror.sync()
    last = read_last_seq(environment.database)
    lines = [spelt(line) for line in environment.tail()]
    assert [int(line["seq"]) for line in lines] == list(range(last - 19, last + 1))
    assert {line["owner"].strip() for line in lines} == {"Contoso"}
    changed = next(spelt(line) for line in environment.tail("--last", "500", "--change", "updated"))
    where = "select concat(changed, ' ', object_id) from events.change_events where seq = :seq"
    kept = fetch_scalar(environment.database, where, seq=int(changed["seq"]))
    columns = re.fullmatch(r"  (.+) \((.+)\)", changed["rest"])
    assert columns
    assert columns[2].replace(" ", "") == kept.partition("}")[0][1:]
    member = next(
        spelt(line)
        for line in environment.tail(
            "--from", "oldest", "--limit", "999", "--resource", "group_members"
        )
    )
    assert re.fullmatch(r"  \D.* in \D.*", member["rest"]), "people have names, not ids"


def test_what_is_told_for_programs_is_what_a_sink_gets(
    mirror: Mirror, environment: EventsEnvironment
) -> None:
    mirror.tenant.mutate(25)
    mirror.sync()
    environment.add()
    environment.deliver()
    lines = [line.encode() for line in environment.tail("--from", "oldest", "--json")]
    assert lines == environment.received()
    for line in lines:
        event = JSONFormat().read(CloudEvent, line)
        assert event.get_type().startswith("tenantmirror.")
        assert event.get_extension("partitionkey") == "1"
    prefixed = environment.run("events", "tail", "--json", TENANT_MIRROR_EVENT_PREFIX="com.example")
    assert json.loads(prefixed.stdout.splitlines()[0])["type"].startswith("com.example.")


def test_only_what_was_asked_for_is_told(mirror: Mirror, environment: EventsEnvironment) -> None:
    mirror.tenant.mutate(40)
    mirror.sync()
    options = ("--resource", "users", "--resource", "groups", "--change", "updated")
    for more in (("--last", "9999"), ("--from", "oldest"), ("--from", "1", "--connection", "1")):
        lines = [json.loads(line) for line in environment.tail("--json", *options, *more)]
        wanted = (
            "select array_agg(seq order by seq) from events.change_events"
            " where resource in ('users', 'groups') and change = 'updated'"
        )
        assert [int(line["sequence"]) for line in lines] == fetch_scalar(
            environment.database, wanted
        )
    assert environment.tail(*options, "--last", "0") == []
    assert len(environment.tail("--from", "oldest", "--limit", "7")) == 7


def test_a_tail_begins_where_it_is_told(environment: EventsEnvironment) -> None:
    first, second = environment.enrol(2)
    for one in (first, second, first, second):
        environment.write(one, 3)
    times = "select occurred_at from events.change_events where connection_id = :id and seq = :seq"
    moment = fetch_scalar(environment.database, times, id=second, seq=2)
    assert environment.told("--connection", str(second), "--from", "5") == [
        (second, 5),
        (second, 6),
        (second, 7),
    ]
    expected = [(second, 2), (second, 3), (second, 4)]
    expected += [(first, 5), (first, 6), (first, 7), (second, 5), (second, 6), (second, 7)]
    assert environment.told("--from", moment.isoformat()) == expected
    everything = environment.told("--from", "1h")
    assert len(everything) == 14
    assert environment.told("--from", "oldest") == everything
    assert environment.told() == everything, "the last 20, in the order of time"
    assert environment.told("--last", "3") == everything[-3:]


def test_a_mistake_is_named(environment: EventsEnvironment) -> None:
    environment.enrol(2)
    for arguments, why in (
        ("--from 42", "belongs to one connection"),
        ("--from 42 --connection 1 --connection 2", "belongs to one connection"),
        ("--from noon", "invalid start"),
        ("--from 2999-01-01", "is in the future"),
        ("--from snapshot", "only sinks can start with a snapshot"),
        ("--from 1h --last 3", "either --from or --last"),
        ("--connection nobody", "there is no connection 'nobody'"),
        ("--resource people", "choose from"),
        ("--change moved", "choose from"),
    ):
        done = environment.run("events", "tail", *arguments.split())
        assert done.returncode == 2, arguments
        assert why in done.stderr
        assert done.stdout == ""
        assert "Traceback" not in done.stderr


def test_what_is_not_kept_or_still_to_come_is_said(environment: EventsEnvironment) -> None:
    (one,) = environment.enrol(1)
    environment.write(one, 9)
    with environment.database.open_transaction() as db:
        db.execute(text("delete from events.change_events where seq <= 4"))
    done = environment.run("events", "tail", "--connection", str(one), "--from", "2", "--json")
    assert [int(json.loads(line)["sequence"]) for line in done.stdout.splitlines()] == [
        *range(5, 11)
    ]
    assert "events before 5 are no longer retained" in done.stderr
    late = environment.run("events", "tail", "--connection", str(one), "--from", "99")
    assert (late.returncode, late.stdout) == (0, "")
    assert "event 99 does not exist yet; the last is 10" in late.stderr
    assert "no event matches" in late.stderr


def test_following_never_skips_a_late_commit(environment: EventsEnvironment) -> None:
    first, second = environment.enrol(2)
    tail = environment.follow("--json")
    assert tail.events(2) == [(first, 1), (second, 1)]
    with environment.writing(first, 2):
        environment.write(second, 1)
        assert tail.events(1) == [(second, 2)], "written after, committed before"
        environment.write(second, 1)
        assert tail.events(1) == [(second, 3)]
    assert tail.events(2) == [(first, 2), (first, 3)]
    _, _, third = environment.enrol(1)
    assert tail.events(1) == [(third, 1)], "a connection that came meanwhile"
    environment.write(third, 1_500)
    assert tail.events(1_500) == [(third, seq) for seq in range(2, 1_502)]


def test_following_tells_within_a_second_and_ends_at_once(environment: EventsEnvironment) -> None:
    (one,) = environment.enrol(1)
    tail = environment.follow()
    assert spelt(tail.line())["resource"] == "connection"
    delays = []
    for _ in range(3):
        environment.write(one, 1)
        began = time.monotonic()
        tail.line()
        delays.append(time.monotonic() - began)
    assert max(delays) < 1
    code, seconds, said = tail.interrupt()
    assert (code, said) == (0, "")
    assert seconds < 1


def test_following_outlives_the_loss_of_postgres(environment: EventsEnvironment) -> None:
    (one,) = environment.enrol(1)
    url = environment.environment["DATABASE_URL"]
    place = urlsplit(url)
    assert place.hostname
    assert place.port
    with FaultProxy(place.hostname, place.port) as proxy:
        through = url.replace(f":{place.port}/", f":{proxy.port}/")
        tail = environment.follow("--json", DATABASE_URL=through)
        assert tail.events(1) == [(one, 1)]
        proxy.refuse()
        proxy.drop()
        environment.write(one, 2)
        assert tail.process.stderr is not None
        said = tail.process.stderr.readline().decode()
        assert "cannot be reached" in said
        assert "the output continues" in said
        proxy.heal()
        assert tail.events(2) == [(one, 2), (one, 3)]
        assert b"Postgres answers again" in tail.process.stderr.readline()
        assert tail.interrupt()[0] == 0


def test_a_closed_pipe_ends_it_quietly(environment: EventsEnvironment) -> None:
    (one,) = environment.enrol(1)
    environment.write(one, 3_000)
    command = " ".join(f"'{part}'" for part in COMMAND)
    script = f"{command} events tail --from oldest --json | head -n 2; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["/bin/bash", "-c", script],
        env=environment.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    *lines, code = done.stdout.splitlines()
    assert [json.loads(line)["sequence"][-1] for line in lines] == ["1", "2"]
    assert code == "0"
    idle = environment.follow("--last", "1")
    idle.line()
    assert idle.process.stdout is not None
    idle.process.stdout.close()
    assert idle.process.wait(10) == 0, "though there is nothing to write"
    assert idle.process.stderr is not None
    assert idle.process.stderr.read() == b""


def test_replayed_events_arrive_again_with_the_same_ids_and_then_the_tail(
    environment: EventsEnvironment,
) -> None:
    one, _ = environment.enrol(2)
    environment.write(one, 30)
    environment.add()
    with environment.relay():
        wait_until(lambda: len(environment.received()) == 32)
        done = environment.replay("--connection", str(one), "--from", "11", "--yes", "--json")
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        environment.write(one, 5)
        wait_until(lambda: len(environment.received()) == 32 + 21 + 5)
    assert told["events"] == 21
    assert told["connections"] == [
        {
            "connection_id": one,
            "connection": "entra/customer-0",
            "next_seq": 11,
            "events": 21,
            "oldest_kept": False,
        }
    ]
    got = [
        event for event in environment.received() if json.loads(event)["partitionkey"] == str(one)
    ]
    assert got[31:52] == got[10:31], "byte for byte"
    assert [int(json.loads(event)["sequence"]) for event in got[31:]] == [*range(11, 37)]


def test_positions_never_move_forward(environment: EventsEnvironment) -> None:
    first, second = environment.enrol(2)
    environment.write(first, 10)
    environment.write(second, 10)
    environment.add()
    environment.deliver()
    environment.write(first, 5)
    environment.write(second, 5)
    back = "update events.positions set seq = 1 where connection_id = :id returning seq"
    assert fetch_scalar(environment.database, back, id=second) == 1
    times = "select occurred_at from events.change_events where connection_id = :id and seq = 6"
    moment = fetch_scalar(environment.database, times, id=first).isoformat()
    done = environment.replay("--from", moment, "--yes")
    assert done.returncode == 0, done.stderr
    assert "sink 'feed' gets 10 events again, of 1 connection" in done.stdout
    assert "entra/customer-0: 10 events, from 2" in done.stdout
    assert "entra/customer-1 is not replayed: event 2 is next" in done.stdout
    assert environment.positions() == {first: 1, second: 1}
    again = environment.replay("--from", moment, "--yes")
    assert again.returncode == 0
    assert "nothing to replay" in again.stdout
    missing = environment.replay("--from", "99", "--connection", str(first), "--yes")
    assert missing.returncode == 2
    assert "event 99 of entra/customer-0 does not exist yet; the last is 16" in missing.stderr
    assert environment.positions() == {first: 1, second: 1}


def test_what_retention_has_dropped_is_not_replayed(environment: EventsEnvironment) -> None:
    (one,) = environment.enrol(1)
    environment.write(one, 9)
    environment.add()
    environment.deliver()
    with environment.database.open_transaction() as connection:
        connection.execute(text("delete from events.change_events where seq <= 4"))
    for start in (("--from", "2", "--connection", str(one)), ("--from", "oldest")):
        with environment.database.open_transaction() as db:
            db.execute(text("update events.positions set seq = 10"))
        done = environment.replay(*start, "--yes")
        assert "6 events, from 5, the oldest that is retained" in done.stdout, done.stderr
        assert environment.positions() == {one: 4}


def test_a_relay_that_serves_the_sink_is_fenced_first(environment: EventsEnvironment) -> None:
    (one,) = environment.enrol(1)
    environment.write(one, 9)
    environment.add()
    environment.deliver()
    with environment.database.open_transaction() as connection:
        (held,) = sinks.claim_sinks(connection, "test", seconds=60, limit=1)
    assert environment.replay("--from", "oldest", "--yes").returncode == 0
    with environment.database.open_transaction() as db, pytest.raises(LeaseLost):
        sinks.advance_positions(db, held, [Position(one, 10, None)], seconds=60)
    assert environment.positions() == {one: 0}
    settling = "select retry_at > clock_timestamp() from events.sinks"
    assert fetch_scalar(environment.database, settling) is True, "what it holds in hand comes first"


def test_a_sink_is_told_only_what_it_wants_again(environment: EventsEnvironment) -> None:
    first, _ = environment.enrol(2)
    environment.write(first, 5)
    environment.write(first, 3, kind=ChangeKind.DELETED)
    environment.add("--connection", str(first), "--change", "deleted")
    environment.deliver()
    assert len(environment.received()) == 3
    done = environment.replay("--from", "oldest", "--yes")
    assert "gets 3 events again, of 1 connection" in done.stdout, done.stderr
    other = environment.replay("--from", "1", "--connection", "2", "--yes")
    assert other.returncode == 2
    assert "sink 'feed' gets no events of entra/customer-1" in other.stderr
    environment.deliver()
    assert environment.received()[3:] == environment.received()[:3]


def test_a_paused_sink_is_moved_and_waits_to_be_resumed(environment: EventsEnvironment) -> None:
    (one,) = environment.enrol(1)
    environment.write(one, 9)
    environment.add()
    environment.deliver()
    assert environment.run("sinks", "pause", "feed").returncode == 0
    done = environment.replay("--from", "oldest", "--yes")
    assert "it is paused; resume it with 'tenant-mirror sinks resume feed'" in done.stdout
    assert fetch_scalar(environment.database, "select status from events.sinks") == "paused"
    assert environment.positions() == {one: 0}


def test_a_replay_asks_first(environment: EventsEnvironment) -> None:
    (one,) = environment.enrol(1)
    environment.write(one, 9)
    environment.add()
    environment.deliver()
    silent = environment.replay("--from", "oldest")
    assert silent.returncode == 2
    assert "would get 10 events again" in silent.stderr
    assert "--yes" in silent.stderr
    assert environment.positions() == {one: 10}
    for answer, position in (("n", 10), ("y", 0)):
        assert asked(environment, answer) == (position != 0)
        assert environment.positions() == {one: position}


def asked(ground: EventsEnvironment, answer: str) -> int:
    """The exit code, where a person answers at a terminal."""
    ours, theirs = pty.openpty()
    try:
        os.write(ours, f"{answer}\n".encode())
        replay = ("events", "replay", "feed", "--from", "oldest")
        done = run_command(replay, ground.environment, stdin=os.ttyname(theirs))
    finally:
        os.close(ours)
        os.close(theirs)
    return done.returncode


def test_a_snapshot_under_way_is_let_through_or_begun_anew(
    mirror: Mirror, environment: EventsEnvironment
) -> None:
    environment.add()
    environment.deliver()
    under_way = """update events.positions set snapshot = '{"resource": "users"}' returning seq"""
    last = fetch_scalar(environment.database, under_way)
    refused = environment.replay("--from", "oldest", "--yes")
    assert refused.returncode == 3
    assert "entra/contoso is not replayed: a snapshot is under way" in refused.stdout
    assert environment.positions() == {1: last}
    mirror.tenant.mutate(20)
    mirror.sync()
    done = environment.replay("--from", "snapshot", "--yes")
    assert done.returncode == 0, done.stderr
    assert "sink 'feed' gets a snapshot of 1 connection" in done.stdout
    present = read_last_seq(environment.database)
    assert f"its current rows, then event {present + 1:,} and later ones" in done.stdout
    kept = (
        "select p.seq || p.snapshot::text || (p.occurred_at = l.last_event_at)"
        " from events.positions p join sync.leases l using (connection_id)"
    )
    assert fetch_scalar(environment.database, kept) == f"{present}{{}}true"
    before = len(environment.received())
    with environment.relay():
        under_way = "select count(*) from events.positions where snapshot is not null"
        wait_until(lambda: fetch_scalar(environment.database, under_way) == 0)
        environment.write(1, 1)
        wait_until(lambda: environment.positions() == {1: present + 1})
    told = [json.loads(event) for event in environment.received()[before:]]
    assert [event["data"]["snapshot"] for event in told] == [True] * (len(told) - 1) + [False]
    objects = [event for event in told[:-1] if event["data"]["resource"] != "connection"]
    assert len(objects) == sum(truth.count for truth in mirror.tenant.truth().values())
    assert told[-2]["type"].endswith("connection.snapshot_completed")


def test_nobody_is_taken_for_another_sink(environment: EventsEnvironment) -> None:
    done = environment.replay("--from", "oldest", "--yes")
    assert done.returncode == 2
    assert "there is no sink 'feed'; 'tenant-mirror sinks list'" in done.stderr


def test_help_teaches_with_examples(environment: EventsEnvironment) -> None:
    for command, example in (("tail", "--follow --resource users"), ("replay", "crm --from 2h")):
        done = environment.run("events", command, "--help")
        assert done.returncode == 0
        assert f"tenant-mirror events {command} {example}" in done.stdout
