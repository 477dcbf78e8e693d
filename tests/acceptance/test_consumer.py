"""Consumers end with the mirror, whatever befalls the relays, Redis and themselves meanwhile.

One folds the Redis stream, the other is a webhook's receiver that is slow, fails now and then, or
takes a request without answering. Both may rely on what docs/events.md promises and on nothing
else: they import nothing of ours.
"""

import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from threading import Event, Thread
from typing import Final

import pytest
from sqlalchemy import text

from models.sink import SinkKind, SinkStart
from sandbox.tenant import Nango, Tenant
from tests.support import consumer
from tests.support.consumer import Fold
from tests.support.fold import (
    count_steps_back,
    find_differences,
    find_missing,
    read_counters,
    read_stream,
)
from tests.support.fork_server import run_command
from tests.support.isolated_environment import IsolatedEnvironment
from tests.support.mirror import fetch_scalar, verify_connection
from tests.support.service import is_exact, resend_lost, wait_until
from tests.support.webhook_consumer import WebhookConsumer
from tests.support.webhook_receiver import WebhookReceiver, run_receiver
from worker.core.process.identity import parse_identity
from worker.delivery.store import admin
from worker.sync.finish.approve import approve_held

STREAM: Final = "directory"
STREAM_SINK, HOOK_SINK = "stream", "hook"
LATE, LATE_OPTIONS = "late", ("--stream", "late", "--from", "snapshot")
RELAYS: Final = ("relay-1", "relay-2")
BATCH, TIMEOUT = 20, 10
"""Events in one request, and the seconds that the receiver may take for it."""

PROMPT: Final = 8.0
"""Seconds within which the stream has what was committed. It takes a fraction of one, and much
less than a webhook that hangs; a loaded machine has to pass as well."""

ENDED = re.compile("sink lease held by another relay|sink lease lost")
HOLDER = "select holder from events.sinks where name = :name and expires_at > clock_timestamp()"
LAPSE = text("update events.sinks set expires_at = '2000-01-01' where holder = :holder")
HELD = text("select distinct connection_id from sync.streams where phase = 'held'")
OPEN = (
    "select count(*) from pg_stat_activity where datname = current_database()"
    " and application_name = 'tenant-mirror' and pid <> pg_backend_pid()"
    " and state like 'idle in transaction%'"
)


@dataclass
class Play:
    """Everything that runs, and what may befall it."""

    ground: IsolatedEnvironment
    hook: WebhookConsumer
    tenants: list[Tenant]
    path: Path
    fold: Fold
    takeovers: int = 0
    """Blows after which events may be delivered again."""

    # ---- processes

    def start_relay(self, name: str, **more: str) -> None:
        self.ground.service.start_relay(name, **more)

    def start_consumer(self) -> None:
        command = [sys.executable, consumer.__file__, STREAM, str(self.path)]
        url = self.ground.servers.redis_url
        self.ground.service.launch("consumer", command, STREAM_URL=url)

    def kill_consumer(self) -> None:
        self.ground.service.kill("consumer")
        self.start_consumer()

    def serving(self, sink: str = STREAM_SINK) -> str:
        """The relay that serves a sink."""
        wait_until(lambda: self._holder(sink) is not None, what=f"a relay for {sink}")
        found = parse_identity(str(self._holder(sink)))
        assert found is not None
        (name,) = (n for n, it in self.ground.service.processes.items() if it.pid == found.pid)
        return name

    def _holder(self, sink: str) -> str | None:
        found: str | None = fetch_scalar(self.ground.database, HOLDER, name=sink)
        return found

    def lapse(self, pid: int) -> None:
        """The leases of a relay end now; nobody waits 15 seconds here."""
        self.takeovers += 1
        with self.ground.database.open_transaction() as db:
            found = db.execute(text("select distinct holder from events.sinks"))
            for holder in found.scalars().all():
                identity = parse_identity(str(holder))
                if identity is not None and identity.pid == pid:
                    db.execute(LAPSE, {"holder": holder})

    def await_events(self) -> None:
        wait_until(lambda: len(read_counters(self.ground.database)) == 2, what="both customers")
        wait_until(lambda: self.fold.position("/connections/1") > 0, what="the first events")

    # ---- blows

    def await_crash(self, name: str) -> None:
        """A relay that was started to die between delivery and position."""
        pid = self.ground.service.processes[name].pid
        assert self.ground.service.wait_for_end(name) == -signal.SIGKILL
        self.lapse(pid)

    def kill_relay(self) -> None:
        name = self.serving()
        pid = self.ground.service.processes[name].pid
        self.ground.service.kill(name)
        self.lapse(pid)
        self.start_relay(name)

    def crash_relay(self) -> None:
        """Kill one right after a delivery: the serving one makes room for it."""
        name = self.serving()
        pid = self.ground.service.processes[name].pid
        self.ground.service.kill(name)
        self.start_relay(name, TENANT_MIRROR_CRASH_AT="events-delivered:2")
        doomed = self.ground.service.processes[name].pid
        for other in [one for one in self.ground.service.processes if one.startswith("relay")]:
            if other != name:
                self.ground.service.stop(other)
        self.lapse(pid)
        assert doomed == self.ground.service.processes[name].pid
        self.await_crash(name)
        for other in RELAYS:
            self.start_relay(other)

    def freeze_relay(self) -> None:
        """Stop one with events in hand; it wakes up long after another has taken over."""
        service = self.ground.service
        self._hang()
        name = self.serving(HOOK_SINK)
        pid = service.processes[name].pid
        self._stop_outside_transactions(name)
        self.lapse(pid)
        self.hook.release()
        wait_until(lambda: self.serving(HOOK_SINK) != name, what="a relay that takes over")
        self.prompt()
        wanted = read_counters(self.ground.database)
        wait_until(lambda: self._is_hooked(wanted), what="the webhook's share")
        said = len(service.read_log(name))
        service.send_signal(name, signal.SIGCONT)
        wait_until(
            lambda: bool(ENDED.search(service.read_log(name)[said:])), what="the zombie's end"
        )
        self.takeovers += 1

    def _stop_outside_transactions(self, name: str) -> None:
        """A relay that is stopped within a transaction holds its row until Postgres ends that."""
        service = self.ground.service

        def stopped() -> bool:
            service.send_signal(name, signal.SIGSTOP)
            time.sleep(0.05)
            if not fetch_scalar(self.ground.database, OPEN):
                return True
            service.send_signal(name, signal.SIGCONT)
            return False

        wait_until(stopped, what="a moment without a transaction")

    def kill_redis(self) -> None:
        before = self.ground.get_pid("valkey")
        self.takeovers += 1
        os.kill(before, signal.SIGKILL)
        supervisor = self.ground.servers.supervisor
        wait_until(
            lambda: (
                supervisor.get_pid("valkey") not in (None, before) and supervisor.is_ready("valkey")
            ),
            what="the restart of Redis",
        )
        self.keep_all()

    def keep_all(self) -> None:
        """Have Redis write to its file what it acknowledges, before it does so."""
        self.ground.run_redis("CONFIG", "SET", "appendfsync", "always")

    def prompt(self, turns: int = 1) -> None:
        """What is committed from now on is in the consumer's tables soon."""
        database = self.ground.database
        for _ in range(turns):
            before = read_counters(database)[1]
            self.tenants[0].mutate(2)
            wait_until(lambda before=before: self._has_changed(before), what="a change")  # type: ignore[misc]
            wanted = read_counters(database)[1]
            wait_until(
                lambda wanted=wanted: self.fold.position("/connections/1") >= wanted,  # type: ignore[misc]
                PROMPT,
                "the delivery of a change",
            )

    def _has_changed(self, before: int) -> bool:
        self._operate()
        return read_counters(self.ground.database)[1] > before

    def _operate(self) -> None:
        """What operators do: look at held deletions; and what time does: claims that were lost."""
        resend_lost(self.ground.database)
        with self.ground.database.open_transaction() as db:
            held = db.execute(HELD).scalars().all()
        for number in held:
            approve_held(self.ground.database, number)

    def hang_hook(self) -> None:
        """While the webhook hangs, the stream goes on."""
        self._hang()
        self.prompt(3)
        assert self.hook.is_hanging
        self.hook.release()

    def _hang(self) -> None:
        """Have the webhook hang, with more to come than fits into its request."""
        self.hook.hang()
        self.tenants[0].mutate(3 * BATCH)
        wait_until(self._is_hanging, what="a request that hangs")

    def _is_hanging(self) -> bool:
        self._retry_now()
        return self.hook.is_hanging

    def freeze_consumer(self) -> None:
        """Stop the consumer where Redis hands it nothing more: its read has timed out, too."""
        self.ground.service.send_signal("consumer", signal.SIGSTOP)
        wait_until(lambda: not self._is_reading(), what="the end of the consumer's blocking read")

    def _is_reading(self) -> bool:
        listed = self.ground.run_redis("CLIENT", "LIST")
        assert isinstance(listed, bytes)
        clients = [set(line.split()) for line in listed.decode().splitlines()]
        assert clients, "Redis lists at least the client that asks"
        return any({"flags=b", "cmd=xreadgroup"} <= one for one in clients)

    def is_delivered(self) -> bool:
        """Whether something came, and the stream has had it.

        Asked in this order: what comes between the two questions is not taken for delivered.
        """
        came = self._has_changed(self.fold.position("/connections/1"))
        return came and bool(fetch_scalar(self.ground.database, delivered(STREAM_SINK)))

    def command(self, *arguments: str) -> None:
        """What an operator types."""
        done = run_command(arguments, self.ground.service.environment)
        assert done.returncode == 0, done.stderr

    def assert_late_comer(self) -> None:
        """Whoever came later has the same, from a snapshot on."""
        database, fold = self.ground.database, Fold()
        wait_until(
            lambda: bool(fetch_scalar(database, delivered(LATE))), what="the end of the late stream"
        )
        fold.apply(read_stream(self.ground.servers.redis_url, LATE))
        assert (fold.errors, fold.gaps) == ([], {})
        assert list(find_differences(database, fold)) == []

    # ---- the end

    def at_rest(self) -> None:
        """Changes have stopped: everything arrives."""
        database = self.ground.database
        self.hook.fails_randomly = False
        wait_until(self._is_exact, 60, what="the mirror of it all")
        wait_until(
            lambda: not find_missing(self.fold, read_counters(database)),
            what="the end of the stream",
        )
        wait_until(lambda: self._is_hooked(read_counters(database)), what="the last request")

    def _is_hooked(self, wanted: Mapping[int, int]) -> bool:
        self._retry_now()
        return not find_missing(self.hook.fold, wanted)

    def _is_exact(self) -> bool:
        self._operate()
        return all(is_exact(self.ground.database, it, n) for n, it in enumerate(self.tenants, 1))

    def _retry_now(self) -> None:
        """As an operator does who knows that the receiver is well again."""
        later = "select retry_at > clock_timestamp() + interval '8 s' from events.sinks"
        if fetch_scalar(self.ground.database, f"{later} where name = :name", name=HOOK_SINK):
            with self.ground.database.open_transaction() as db:
                admin.resume_sink(db, HOOK_SINK)

    def assert_told(self) -> None:
        """Everything that was promised to consumers."""
        database = self.ground.database
        for number in read_counters(database):
            assert verify_connection(database, number).problems == []
        for fold in (self.fold, self.hook.fold):
            assert fold.errors == []
            assert fold.gaps == {}
            assert list(find_differences(database, fold)) == []
        assert self.ground.service.find_ended() == {}
        assert self.ground.service.find_bugs() == []

    def assert_in_order(self) -> None:
        """Nothing was skipped, and nothing came again without a blow that explains it."""
        back = count_steps_back(read_stream(self.ground.servers.redis_url, STREAM))
        assert set(back) == {
            f"/connections/{number}" for number in read_counters(self.ground.database)
        }
        assert max(back.values()) <= self.takeovers
        hooked = count_steps_back(self.hook.accepted)
        assert hooked.keys() == back.keys()
        assert max(hooked.values()) <= self.takeovers + self.hook.hung_count


def delivered(sink: str) -> str:
    """Asks whether a sink has had everything."""
    return (
        "select bool_and(p.seq = l.event_seq and p.snapshot is null) from sync.leases l"
        " join events.positions p on p.connection_id = l.connection_id"
        f" join events.sinks s on s.id = p.sink_id and s.name = '{sink}'"
    )


@contextmanager
def changing(tenants: list[Tenant], rng: Random) -> Iterator[None]:
    """Tenants at work, for the length of the block."""
    stop = Event()

    def work() -> None:
        while not stop.wait(0.25):
            rng.choice(tenants).mutate(rng.choice((1, 1, 2, 5)))

    thread = Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def add_sinks(ground: IsolatedEnvironment, receiver: WebhookReceiver) -> None:
    stream = admin.NewSink(
        STREAM_SINK,
        SinkKind.REDIS_STREAM,
        {"stream": STREAM, "maxlen": 1_000_000},
        start=SinkStart.OLDEST,
    )
    hook = admin.NewSink(
        HOOK_SINK,
        SinkKind.WEBHOOK,
        {
            "url": receiver.url,
            "batch": BATCH,
            "timeout": TIMEOUT,
            "allow_http": True,
            "allow_private": True,
        },
        {"keys": [receiver.secret]},
        start=SinkStart.OLDEST,
    )
    with ground.database.open_transaction() as db:
        for one in (stream, hook):
            admin.add_sink(db, one, None)


@pytest.fixture
def play(environment: IsolatedEnvironment, nango: Nango, tmp_path: Path) -> Iterator[Play]:
    """Two customers, two sinks, and everything but the relays up."""
    tenants = [
        Tenant(seed=91, users=400, groups=20, sites=10),
        Tenant(seed=92, users=120, groups=8, sites=5),
    ]
    for number, tenant in enumerate(tenants):
        nango.add_connection(f"customer-{number}", tenant)
    fold = Fold(tmp_path / "consumer.sqlite")
    with run_receiver() as receiver:
        made = Play(
            environment,
            WebhookConsumer(receiver, Random(91)),
            tenants,
            tmp_path / "consumer.sqlite",
            fold,
        )
        made.keep_all()
        add_sinks(environment, receiver)
        environment.service.start_all()
        made.start_consumer()
        yield made
        made.hook.release()
        environment.service.close()
        fold.close()


@pytest.mark.timeout(480)
def test_consumers_end_with_the_mirror_through_kills_of_relays_redis_and_themselves(
    play: Play,
) -> None:
    play.start_relay("relay-1", TENANT_MIRROR_CRASH_AT="events-delivered:2")
    with changing(play.tenants, Random(93)):
        play.await_crash("relay-1")
        for name in (*RELAYS, "relay by mistake"):
            play.start_relay(name)
        play.await_events()
        play.kill_consumer()
        play.hang_hook()
        play.kill_redis()
        play.command("sinks", "add", LATE, "--kind", "redis-stream", *LATE_OPTIONS)
        play.kill_relay()
        play.prompt()
        play.freeze_relay()
        play.kill_consumer()
        play.kill_redis()
        play.prompt()
    play.at_rest()
    play.assert_told()
    play.assert_in_order()
    assert play.hook.answer_counts.get(429)
    play.assert_late_comer()


@pytest.mark.timeout(360)
def test_what_a_redis_forgot_is_missed_and_delivered_once_more(play: Play) -> None:
    play.start_relay("relay-1")
    play.await_events()
    play.at_rest()
    service, database = play.ground.service, play.ground.database
    play.freeze_consumer()
    had = play.fold.position("/connections/1")
    play.tenants[0].mutate(20)
    wait_until(play.is_delivered, what="the delivery of changes that nobody reads")
    play.ground.run_redis("DEL", STREAM)
    service.send_signal("consumer", signal.SIGCONT)
    play.tenants[0].mutate(20)
    wait_until(lambda: play.fold.gaps == {"/connections/1": had + 1}, what="what is missed")
    assert play.fold.position("/connections/1") == had
    play.command(
        "events", "replay", STREAM_SINK, *(f"--from {had + 1} --connection 1 --yes".split())
    )
    play.at_rest()
    play.assert_told()
    assert play.fold.position("/connections/1") == read_counters(database)[1] > had


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [1, 2])
def test_consumers_end_with_the_mirror_through_minutes_of_blows(play: Play, seed: int) -> None:
    rng = Random(seed)
    blows: list[Callable[[], None]] = [
        play.kill_relay,
        play.crash_relay,
        play.freeze_relay,
        play.kill_redis,
        play.kill_consumer,
        play.hang_hook,
    ]
    for name in RELAYS:
        play.start_relay(name)
    play.await_events()
    for _ in range(3):
        with changing(play.tenants, rng):
            play.prompt()
            for blow in rng.choices(blows, k=8):
                blow()
        play.at_rest()
        play.assert_told()
        play.assert_in_order()
        play.hook.fails_randomly = True
