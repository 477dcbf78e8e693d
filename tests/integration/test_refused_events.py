"""An event that a receiver refuses holds up its own connection, and no other."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import text

from models.resources import RESOURCES
from models.sink import SinkKind, SinkStart
from tests.integration.test_relay import RelayEnvironment, by_connection
from tests.support.mirror import Mirror, fetch_scalar, read_last_seq
from tests.support.service import wait_until
from tests.support.webhook_receiver import ReceivedRequest, WebhookReceiver, run_receiver
from worker.delivery.deliver import Delivery
from worker.delivery.relay import Relay
from worker.delivery.store import admin
from worker.delivery.store.refusals import retry_refused
from worker.delivery.store.sinks import claim_sinks
from worker.ops.cli.sinks import sinks as command
from worker.ops.cli.status import status
from worker.overview.metrics.collector import MetricsCollector

_LIVE = "where deleted_at is null"
Told = dict[str, Any]
Wrong = Callable[[Told], bool]


@dataclass
class Picky:
    """A receiver that takes everything but some events."""

    receiver: WebhookReceiver
    status: int = 422
    wrong: Wrong = lambda _: False

    def __post_init__(self) -> None:
        self.accepted: list[Told] = []
        self.receiver.answer = self.answer

    def answer(self, got: ReceivedRequest) -> tuple[int, dict[str, str]]:
        if any(self.wrong(event) for event in got.events):
            return self.status, {}
        self.accepted += got.events
        return 204, {}

    def heal(self) -> None:
        self.wrong = lambda _: False

    def refuse(self, connection_id: int, seq: int = 0) -> None:
        """Refuse one event of a connection, or all."""
        self.wrong = lambda it: (
            it["data"]["connection_id"] == connection_id and seq in (0, int(it["sequence"]))
        )

    def sequences(self, connection_id: int) -> list[int]:
        return by_connection(self.accepted)[connection_id]


@pytest.fixture
def picky() -> Iterator[Picky]:
    with run_receiver() as receiver:
        yield Picky(receiver)


def subscribe(
    ground: RelayEnvironment,
    receiver: WebhookReceiver,
    start: SinkStart = SinkStart.OLDEST,
    **settings: Any,
) -> int:
    given = {"url": receiver.url, "allow_http": True, "allow_private": True, **settings}
    keys = {"keys": [receiver.secret]}
    return ground.add(kind=SinkKind.WEBHOOK, settings=given, secrets=keys, start=start)


@contextmanager
def relayed(ground: RelayEnvironment) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=Relay(ground.database, ground.settings).run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def position(ground: RelayEnvironment, connection_id: int) -> Told:
    statement = text("select * from events.positions where connection_id = :id")
    with ground.database.open_transaction() as db:
        return dict(db.execute(statement, {"id": connection_id}).mappings().one())


def is_refused(ground: RelayEnvironment, connection_id: int, times: int = 1) -> bool:
    statement = "select max(failures) from events.positions where connection_id = :id"
    return int(fetch_scalar(ground.database, statement, id=connection_id) or 0) >= times


def cli(ground: RelayEnvironment, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Any:
    url = ground.database.url.render_as_string(hide_password=False)
    monkeypatch.setenv("DATABASE_URL", url.replace("postgresql+psycopg", "postgresql"))
    return CliRunner().invoke(command, arguments, catch_exceptions=False)


@pytest.mark.parametrize(("status", "batch"), [(422, 1), (409, 1), (400, 20), (413, 20)])
def test_a_refused_event_holds_up_its_connection_only(
    environment: RelayEnvironment, picky: Picky, status: int, batch: int
) -> None:
    known = environment.enrol(3)
    stuck = known[1]
    for one in known:
        environment.write(one, 50)
    picky.status = status
    picky.refuse(stuck, 27)
    subscribe(environment, picky.receiver, batch=batch)
    with relayed(environment):
        wait_until(lambda: is_refused(environment, stuck))
        for one in (known[0], known[2]):
            environment.write(one, 10)
        for one in (known[0], known[2]):
            last = read_last_seq(environment.database, one)
            wait_until(lambda one=one, last=last: environment.position(one) == last)  # type: ignore[misc]
        found = position(environment, stuck)
        assert found["seq"] == 26, "exactly in front of the refused event"
        assert f"answered {status}" in found["reason"]
        assert found["retry_at"] > found["failed_at"]
        picky.heal()
        with environment.database.open_transaction() as db:
            admin.resume_sink(db, "feed")
        wait_until(
            lambda: environment.position(stuck) == read_last_seq(environment.database, stuck)
        )
        found = position(environment, stuck)
    assert (found["failures"], found["retry_at"], found["reason"]) == (0, None, None)
    for one in known:
        assert picky.sequences(one) == list(range(1, read_last_seq(environment.database, one) + 1))
    assert fetch_scalar(environment.database, "select failures from events.sinks") == 0


def test_a_refused_event_is_tried_alone_and_again_after_a_pause(
    environment: RelayEnvironment, picky: Picky
) -> None:
    (one,) = environment.enrol(1)
    environment.write(one, 30)
    picky.refuse(one, 5)
    sink_id = subscribe(environment, picky.receiver, batch=20)
    with relayed(environment):
        wait_until(lambda: is_refused(environment, one))
        before = len(picky.receiver.requests)
        wait_until(lambda: is_refused(environment, one, 2))
        again = picky.receiver.requests[before:]
        assert [[int(event["sequence"]) for event in got.events] for got in again] == [[5]]
        picky.heal()
        with environment.database.open_transaction() as db:
            retry_refused(db, sink_id)
        wait_until(lambda: environment.position(one) == read_last_seq(environment.database, one))
    assert picky.sequences(one) == list(range(1, read_last_seq(environment.database, one) + 1))


def test_the_pause_outlives_the_relay(environment: RelayEnvironment, picky: Picky) -> None:
    (one,) = environment.enrol(1)
    environment.write(one, 3)
    picky.refuse(one, 2)
    subscribe(environment, picky.receiver)
    with relayed(environment):
        wait_until(lambda: is_refused(environment, one))
    with environment.database.open_transaction() as db:
        db.execute(text("update events.positions set retry_at = now() + interval '1 hour'"))
    count = len(picky.receiver.requests)
    environment.write(one, 3)
    environment.deliver()
    assert len(picky.receiver.requests) == count


def test_a_receiver_that_refuses_everybody_is_told_of_and_not_called_in_a_storm(
    environment: RelayEnvironment, picky: Picky
) -> None:
    known = environment.enrol(30)
    picky.wrong = lambda _: True
    subscribe(environment, picky.receiver, batch=10)
    for one in known:
        environment.write(one, 20)
    with relayed(environment):
        wait_until(
            lambda: (
                (fetch_scalar(environment.database, "select failures from events.sinks") or 0) >= 3
            )
        )
        reason = fetch_scalar(environment.database, "select status_reason from events.sinks")
        assert "answered 422" in reason
        assert "the last 5 connections failed in the same way" in reason
        assert len(picky.receiver.requests) < 60, "half of the connections were not even tried"
        picky.heal()
        with environment.database.open_transaction() as db:
            admin.resume_sink(db, "feed")
        for one in known:
            last = read_last_seq(environment.database, one)
            wait_until(lambda one=one, last=last: environment.position(one) == last)  # type: ignore[misc]
    for one in known:
        assert picky.sequences(one) == list(range(1, read_last_seq(environment.database, one) + 1))


@pytest.mark.parametrize("status", [500, 504, None])
def test_a_receiver_that_breaks_at_one_event_goes_on_with_the_others(
    environment: RelayEnvironment, picky: Picky, status: int | None
) -> None:
    """None: it does not answer at all."""
    known = environment.enrol(3)
    stuck = known[0]
    for one in known:
        environment.write(one, 5)
    picky.refuse(stuck, 3)

    def answer(got: ReceivedRequest) -> tuple[int, dict[str, str]]:
        found = picky.answer(got)
        if found[0] != 204 and status is None:
            picky.receiver.stop.wait(30)
        return (status or 200, {}) if found[0] != 204 else found

    picky.receiver.answer = answer
    subscribe(environment, picky.receiver, timeout=1)
    with relayed(environment):
        wait_until(lambda: is_refused(environment, stuck), 40)
        for one in known[1:]:
            environment.write(one, 5)
            last = read_last_seq(environment.database, one)
            wait_until(lambda one=one, last=last: environment.position(one) == last)  # type: ignore[misc]
    assert position(environment, stuck)["seq"] == 2
    assert fetch_scalar(environment.database, "select failures from events.sinks") == 0


@pytest.mark.parametrize("status", [401, 403, 404, 500, 503])
def test_a_receiver_that_fails_at_everybody_stops_the_sink_and_no_position(
    environment: RelayEnvironment, picky: Picky, status: int
) -> None:
    for one in environment.enrol(3):
        environment.write(one, 5)
    picky.status, picky.wrong = status, lambda _: True
    subscribe(environment, picky.receiver)
    with relayed(environment):
        wait_until(
            lambda: (
                (fetch_scalar(environment.database, "select failures from events.sinks") or 0) >= 1
            )
        )
    assert not fetch_scalar(
        environment.database, "select count(*) from events.positions where failures > 0"
    )
    assert len(picky.receiver.requests) == 1


def test_a_snapshot_stops_in_front_of_a_refused_object_and_misses_none(
    mirror: Mirror, environment: RelayEnvironment, picky: Picky
) -> None:
    """Objects of several resources, the last of a page and members with two keys among them."""
    subjects = fetch_scalar(
        mirror.database,
        "select array_agg('users/' || id order by id) from directory.users"
        " where deleted_at is null",
    )
    member = fetch_scalar(
        mirror.database,
        "select 'group_members/' || group_id || '/' || member_id from directory.group_members"
        " where deleted_at is null order by group_id, member_id offset 3 limit 1",
    )
    refused = [subjects[0], subjects[13], subjects[-1], member]
    sink_id = subscribe(environment, picky.receiver, start=SinkStart.SNAPSHOT, batch=7)
    picky.wrong = lambda event: event["subject"] in refused
    while refused:
        serve(environment)
        assert is_refused(environment, 1)
        stopped_at = refused.pop(0)
        assert all(event["subject"] not in (stopped_at, *refused) for event in picky.accepted)
        with environment.database.open_transaction() as db:
            assert retry_refused(db, sink_id) == 1
    serve(environment)
    assert fetch_scalar(environment.database, "select snapshot is null from events.positions")
    told = [event["id"] for event in picky.accepted]
    assert len(told) == len(set(told)), "nothing comes twice"
    live = sum(
        int(fetch_scalar(mirror.database, f"select count(*) from directory.{name} {_LIVE}") or 0)
        for name in RESOURCES
    )
    completed = 1
    assert len([event for event in picky.accepted if event["data"]["snapshot"]]) == live + completed


def serve(ground: RelayEnvironment) -> None:
    """Deliver rounds until nothing is to be delivered now."""
    with ground.database.open_transaction() as db:
        (sink,) = claim_sinks(db, "test", seconds=60, limit=9)
    delivery = Delivery(ground.database, sink, ground.settings, threading.Event())
    while delivery.deliver_round():
        pass
    delivery.close()
    ground.lapse()


def test_an_event_that_is_too_large_for_redis_holds_up_its_connection_only(
    environment: RelayEnvironment,
) -> None:
    first, second = environment.enrol(2)
    environment.add()
    before = environment.redis.config_get("proto-max-bulk-len")
    environment.redis.config_set("proto-max-bulk-len", "1mb")
    try:
        environment.write(first, 5)
        with environment.database.open_transaction() as connection:
            connection.execute(
                text(
                    "update events.change_events set after = jsonb_build_object('mail',"
                    " repeat('x', 1200000)) where connection_id = :id and seq = 4"
                ),
                {"id": first},
            )
        for _ in range(2):
            environment.write(second, 20)
            environment.deliver()
            assert environment.position(second) == read_last_seq(environment.database, second)
            assert environment.position(first) == 3
        assert "Redis rejects an event of 1,2" in position(environment, first)["reason"]
        assert by_connection(environment.received())[first] == [1, 2, 3]
    finally:
        environment.redis.config_set("proto-max-bulk-len", before["proto-max-bulk-len"])
    with environment.database.open_transaction() as db:
        admin.resume_sink(db, "feed")
    environment.deliver()
    assert by_connection(environment.received())[first] == list(
        range(1, read_last_seq(environment.database, first) + 1)
    )


def test_a_full_redis_is_the_receivers_trouble(environment: RelayEnvironment) -> None:
    first, second = environment.enrol(2)
    for one in (first, second):
        environment.write(one, 5)
    environment.add()
    environment.redis.config_set("maxmemory", "1mb")
    try:
        delivery = environment.claim()
        with pytest.raises(Exception, match="the memory of Redis is used up"):
            delivery.deliver_round()
        delivery.close()
    finally:
        environment.redis.config_set("maxmemory", "0")
    assert not fetch_scalar(
        environment.database, "select count(*) from events.positions where failures > 0"
    )


def test_a_stream_of_one_connection_that_cannot_be_written_holds_up_no_other(
    environment: RelayEnvironment,
) -> None:
    first, second = environment.enrol(2)
    for one in (first, second):
        environment.write(one, 5)
    environment.add(settings={"stream": environment.stream("of-{connection_id}")})
    environment.redis.set(environment.stream(f"of-{first}"), "something else")
    environment.deliver()
    assert environment.position(second) == read_last_seq(environment.database, second)
    assert "is not a stream" in position(environment, first)["reason"]


def test_an_operator_sees_retries_and_skips_a_refused_event(
    environment: RelayEnvironment, picky: Picky, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = environment.enrol(2)
    for one in (first, second):
        environment.write(one, 5)
    picky.refuse(first, 3)
    subscribe(environment, picky.receiver)
    serve(environment)
    (listed,) = json.loads(cli(environment, monkeypatch, "list", "--json").output)
    assert (listed["connections_refused"], listed["connections_behind"]) == (1, 1)
    shown = json.loads(cli(environment, monkeypatch, "show", "feed", "--json").output)
    assert shown["connections_refused"] == 1
    told = shown["positions"][0]
    assert (told["connection_id"], told["seq"], told["failures"]) == (first, 2, 1)
    assert "answered 422" in told["reason"]
    assert "next try at" in cli(environment, monkeypatch, "show", "feed").output
    readings = {
        sample.name: sample.value
        for metric in MetricsCollector(environment.database, environment.settings).collect()
        for sample in metric.samples
        if "sink_refused" in sample.name
    }
    assert readings == {"tenant_mirror_sink_refused_connections": 1}
    noted = CliRunner().invoke(status, ["--json"], catch_exceptions=False)
    (row,) = json.loads(noted.output)["sinks"]
    refused = "refused are events of 1 connection (all that wait)"
    assert any(refused in note and "answered 422" in note for note in row["notes"])

    tried = cli(environment, monkeypatch, "retry", "feed", "--connection", "customer-0", "--json")
    assert json.loads(tried.output) == {"name": "feed", "connections": 1}
    serve(environment)
    assert position(environment, first)["failures"] == 1
    asked = cli(environment, monkeypatch, "skip", "feed", "--connection", "customer-0")
    assert asked.exit_code == 2, "nobody can be asked"
    assert position(environment, first)["seq"] == 2
    skipped = cli(
        environment, monkeypatch, "skip", "feed", "--connection", "customer-0", "--yes", "--json"
    )
    assert json.loads(skipped.output)["sequence"] == 3
    serve(environment)
    last = read_last_seq(environment.database, first)
    assert picky.sequences(first) == [one for one in range(1, last + 1) if one != 3]
    assert picky.sequences(second) == list(
        range(1, read_last_seq(environment.database, second) + 1)
    )


def test_only_a_refused_event_can_be_skipped(
    environment: RelayEnvironment, picky: Picky, monkeypatch: pytest.MonkeyPatch
) -> None:
    (one,) = environment.enrol(1)
    environment.write(one, 5)
    subscribe(environment, picky.receiver)
    with pytest.raises(Exception, match="no event of connection 1 is refused"):
        cli(environment, monkeypatch, "skip", "feed", "--connection", "customer-0", "--yes")
    assert environment.position(one) == 0
