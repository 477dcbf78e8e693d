"""Where events begin and how they are read: against the simplest reading there could be."""

import random
import tracemalloc
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from models.change_event import ChangeKind
from models.resources import RESOURCES
from sandbox.tenant import Nango, Tenant
from tests.support.mirror import read_last_seq
from worker.delivery.store.rewind import rewind_history
from worker.events.append import append_events
from worker.events.filter import EventFilter
from worker.events.resolve_start import resolve_start
from worker.events.start import FromOldest, FromSequence, FromTime, StartPosition
from worker.events.tail import Tail, TailedEvent
from worker.store.engine import Database
from worker.store.lease import interrupt_writer
from worker.store.mirror.change import Change
from worker.sync.connections.discover import discover
from worker.sync.runtime import Runtime

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def owners(runtime: Runtime, nango: Nango) -> list[int]:
    """Three connections, each with one event."""
    for number in range(3):
        nango.add_connection(f"customer-{number}", Tenant(seed=number, users=1, groups=0, sites=0))
    discover(runtime.database, runtime.nango, runtime.settings)
    return [1, 2, 3]


def write(database: Database, owner: int, count: int, size: int = 10) -> None:
    kinds = list(ChangeKind)
    state = b'{"mail": "%b"}' % (b"x" * size)
    with interrupt_writer(database, owner) as tx:
        changes = [
            Change(kinds[number % 4], str(uuid.uuid4()), None, None, state)
            for number in range(count)
        ]
        append_events(tx, [(RESOURCES["users"], changes)], run_id=None)


def rows(database: Database, where: str = "true") -> list[tuple[datetime, int, int]]:
    """All events, in the order of time."""
    columns = "occurred_at, connection_id, seq"
    statement = f"select {columns} from events.change_events where {where} order by {columns}"
    with database.open_transaction() as db:
        return [tuple(row) for row in db.execute(text(statement))]


def keys(seen: Iterator[TailedEvent] | list[TailedEvent]) -> list[tuple[datetime, int, int]]:
    return [(one.event.occurred_at, one.event.connection_id, one.event.seq) for one in seen]


def spread(database: Database, owner: int, dropped: int) -> None:
    """Give a connection's events times of their own, some alike, and drop the oldest."""
    chance = random.Random(owner)
    with database.open_transaction() as db:
        moment = LONG_AGO
        for seq in range(1, read_last_seq(database, owner) + 1):
            moment += timedelta(seconds=chance.choice([0, 0, 1, 7]))
            db.execute(
                text(
                    "update events.change_events set occurred_at = :at"
                    " where connection_id = :id and seq = :seq"
                ),
                {"at": moment, "id": owner, "seq": seq},
            )
        db.execute(
            text("delete from events.change_events where connection_id = :id and seq <= :seq"),
            {"id": owner, "seq": dropped},
        )


def test_a_time_leads_to_the_first_event_that_is_no_earlier(
    database: Database, owners: list[int]
) -> None:
    for owner, count, dropped in zip(owners, (60, 41, 0), (0, 17, 0), strict=True):
        write(database, owner, count)
        spread(database, owner, dropped)
    told = rows(database)
    moments = [moment for moment, _, _ in told]
    for offset in range(-2, 250, 3):
        moment = LONG_AGO + timedelta(seconds=offset)
        with database.open_transaction() as db:
            found = {one.connection_id: one.start for one in resolve_start(db, FromTime(moment))}
        for owner in owners:
            later = [seq for at, whose, seq in told if whose == owner and at >= moment]
            assert found[owner] == (min(later) if later else read_last_seq(database, owner) + 1)
    assert max(moments) < LONG_AGO + timedelta(seconds=400)


def test_a_connection_whose_events_are_all_gone_begins_with_the_next(
    database: Database, owners: list[int]
) -> None:
    with database.open_transaction() as db:
        db.execute(text("delete from events.change_events where connection_id = 2"))
        for beginning in (FromOldest(), FromTime(LONG_AGO)):
            found = {one.connection_id: one for one in resolve_start(db, beginning)}
            assert found[2] == (2, 2, 1, 2)
            assert found[1] == (1, 1, 1, 1)
        assert resolve_start(db, FromSequence(9), [2])[0].start == 9


@pytest.mark.parametrize("start", [FromOldest(), FromTime(LONG_AGO)])
def test_all_events_are_told_once_in_the_order_of_time(
    database: Database, owners: list[int], start: StartPosition
) -> None:
    for number in range(12):
        write(database, owners[number % 3], 7 + number)
    for wanted, where in (
        (EventFilter(), "true"),
        (EventFilter(connections=frozenset({1, 3})), "connection_id <> 2"),
        (EventFilter(changes=["deleted"]), "change = 'deleted'"),
        (EventFilter(resources=["connection"]), "resource = 'connection'"),
        (
            EventFilter(resources=["users"], changes=["created", "updated"]),
            "resource = 'users' and change in ('created', 'updated')",
        ),
    ):
        seen = Tail(database, wanted, max_rows=9, scan_range=13)
        seen.seek(start)
        assert keys(seen.read_new()) == rows(database, where)
        assert list(seen.read_new()) == []
        write(database, 1, 4)
        assert len(keys(seen.read_new())) == len(
            rows(
                database,
                f"{where} and connection_id = 1 and seq > {read_last_seq(database, 1) - 4}",
            )
        )


def test_who_was_interrupted_goes_on_behind_what_was_taken(
    database: Database, owners: list[int]
) -> None:
    for owner in owners:
        write(database, owner, 50)
    seen = Tail(database)
    seen.seek(FromOldest())
    news = seen.read_new()
    first = keys([next(news) for _ in range(71)])
    del news
    # The last one was handed out; nobody has come back to say that it was taken.
    assert first[:70] + keys(seen.read_new()) == rows(database)


def test_the_last_events_are_the_last_of_all_connections(
    database: Database, owners: list[int]
) -> None:
    for owner in owners * 2:
        write(database, owner, 9)
    told = rows(database)
    for number in (0, 1, 10, 25, 999):
        seen = Tail(database)
        assert keys(seen.read_last(number)) == (told[-number:] if number else [])
        assert list(seen.read_new()) == []
    assert (
        keys(Tail(database, EventFilter(changes=["deleted"])).read_last(5))
        == rows(database, "change = 'deleted'")[-5:]
    )


def test_memory_does_not_grow_with_the_history(database: Database, owners: list[int]) -> None:
    for _ in range(2):
        for owner in owners:
            write(database, owner, 2_000, size=3_000)
    seen = Tail(database)
    seen.seek(FromOldest())
    tracemalloc.start()
    try:
        number = sum(1 for _ in seen.read_new())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert number == 12_003
    assert peak < 12_000_000, "36 MB were told"


def test_who_follows_goes_on_with_the_event_that_history_was_rewound(
    runtime: Runtime, owners: list[int]
) -> None:
    """Numbers are given again: nothing that follows is taken for what was told before."""
    for owner in owners:
        write(runtime.database, owner, 5)
    seen = Tail(runtime.database)
    first = seen.read_last(100)
    with runtime.database.open_transaction() as db:
        for statement in (
            "delete from events.change_events where seq > 2",
            "update sync.leases set event_seq = 2",
        ):
            db.execute(text(statement))
    done = rewind_history(runtime.database)
    write(runtime.database, 2, 4)
    told = list(seen.read_new())
    assert keys(told) == rows(runtime.database, "seq > 2")
    assert [one.event.change for one in told[:3]] == ["rewound"] * 3
    assert {one.source.epoch for one in first} == {done.previous_epoch}
    assert {one.source.epoch for one in told} == {done.epoch}
