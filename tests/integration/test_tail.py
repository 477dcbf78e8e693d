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
from tests.support.mirror import last_seq
from worker.core.beginning import At, Beginning, Numbered, Oldest
from worker.events.ledger import append
from worker.events.rewind import rewind
from worker.events.tail import Seen, Tail, Wanted
from worker.store.change import Change
from worker.store.engine import Database
from worker.store.lease import interrupting
from worker.store.sequence import reaches
from worker.sync.discover import discover
from worker.sync.run import Kit

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def owners(kit: Kit, nango: Nango) -> list[int]:
    """Three connections, each with one event."""
    for number in range(3):
        nango.add_connection(f"customer-{number}", Tenant(seed=number, users=1, groups=0, sites=0))
    discover(kit.database, kit.nango, kit.settings)
    return [1, 2, 3]


def write(database: Database, owner: int, count: int, size: int = 10) -> None:
    kinds = list(ChangeKind)
    state = b'{"mail": "%b"}' % (b"x" * size)
    with interrupting(database, owner) as tx:
        changes = [
            Change(kinds[number % 4], str(uuid.uuid4()), None, None, state)
            for number in range(count)
        ]
        append(tx, [(RESOURCES["users"], changes)], run_id=None)


def rows(database: Database, where: str = "true") -> list[tuple[datetime, int, int]]:
    """All events, in the order of time."""
    columns = "occurred_at, connection_id, seq"
    statement = f"select {columns} from events.change_events where {where} order by {columns}"
    with database.begin() as connection:
        return [tuple(row) for row in connection.execute(text(statement))]


def keys(seen: Iterator[Seen] | list[Seen]) -> list[tuple[datetime, int, int]]:
    return [(one.told.occurred_at, one.told.connection_id, one.told.seq) for one in seen]


def spread(database: Database, owner: int, dropped: int) -> None:
    """Give a connection's events times of their own, some alike, and drop the oldest."""
    chance = random.Random(owner)
    with database.begin() as connection:
        moment = LONG_AGO
        for seq in range(1, last_seq(database, owner) + 1):
            moment += timedelta(seconds=chance.choice([0, 0, 1, 7]))
            connection.execute(
                text(
                    "update events.change_events set occurred_at = :at"
                    " where connection_id = :id and seq = :seq"
                ),
                {"at": moment, "id": owner, "seq": seq},
            )
        connection.execute(
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
        with database.begin() as connection:
            found = {one.connection_id: one.first for one in reaches(connection, At(moment))}
        for owner in owners:
            later = [seq for at, whose, seq in told if whose == owner and at >= moment]
            assert found[owner] == (min(later) if later else last_seq(database, owner) + 1)
    assert max(moments) < LONG_AGO + timedelta(seconds=400)


def test_a_connection_whose_events_are_all_gone_begins_with_the_next(
    database: Database, owners: list[int]
) -> None:
    with database.begin() as connection:
        connection.execute(text("delete from events.change_events where connection_id = 2"))
        for beginning in (Oldest(), At(LONG_AGO)):
            found = {one.connection_id: one for one in reaches(connection, beginning)}
            assert found[2] == (2, 2, 1, 2)
            assert found[1] == (1, 1, 1, 1)
        assert reaches(connection, Numbered(9), [2])[0].first == 9


@pytest.mark.parametrize("beginning", [Oldest(), At(LONG_AGO)])
def test_all_events_are_told_once_in_the_order_of_time(
    database: Database, owners: list[int], beginning: Beginning
) -> None:
    for number in range(12):
        write(database, owners[number % 3], 7 + number)
    for wanted, where in (
        (Wanted(), "true"),
        (Wanted(connections=frozenset({1, 3})), "connection_id <> 2"),
        (Wanted(changes=["deleted"]), "change = 'deleted'"),
        (Wanted(resources=["connection"]), "resource = 'connection'"),
        (
            Wanted(resources=["users"], changes=["created", "updated"]),
            "resource = 'users' and change in ('created', 'updated')",
        ),
    ):
        seen = Tail(database, wanted, most=9, stride=13)
        seen.begin(beginning)
        assert keys(seen.news()) == rows(database, where)
        assert list(seen.news()) == []
        write(database, 1, 4)
        assert len(keys(seen.news())) == len(
            rows(database, f"{where} and connection_id = 1 and seq > {last_seq(database, 1) - 4}")
        )


def test_who_was_interrupted_goes_on_behind_what_was_taken(
    database: Database, owners: list[int]
) -> None:
    for owner in owners:
        write(database, owner, 50)
    seen = Tail(database)
    seen.begin(Oldest())
    news = seen.news()
    first = keys([next(news) for _ in range(71)])
    del news
    # The last one was handed out; nobody has come back to say that it was taken.
    assert first[:70] + keys(seen.news()) == rows(database)


def test_the_last_events_are_the_last_of_all_connections(
    database: Database, owners: list[int]
) -> None:
    for owner in owners * 2:
        write(database, owner, 9)
    told = rows(database)
    for number in (0, 1, 10, 25, 999):
        seen = Tail(database)
        assert keys(seen.last(number)) == (told[-number:] if number else [])
        assert list(seen.news()) == []
    assert (
        keys(Tail(database, Wanted(changes=["deleted"])).last(5))
        == rows(database, "change = 'deleted'")[-5:]
    )


def test_memory_does_not_grow_with_the_history(database: Database, owners: list[int]) -> None:
    for _ in range(2):
        for owner in owners:
            write(database, owner, 2_000, size=3_000)
    seen = Tail(database)
    seen.begin(Oldest())
    tracemalloc.start()
    try:
        number = sum(1 for _ in seen.news())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert number == 12_003
    assert peak < 12_000_000, "36 MB were told"


def test_who_follows_goes_on_with_the_event_that_history_was_rewound(
    kit: Kit, owners: list[int]
) -> None:
    """Numbers are given again: nothing that follows is taken for what was told before."""
    for owner in owners:
        write(kit.database, owner, 5)
    seen = Tail(kit.database)
    first = seen.last(100)
    with kit.database.begin() as connection:
        for statement in (
            "delete from events.change_events where seq > 2",
            "update sync.leases set event_seq = 2",
        ):
            connection.execute(text(statement))
    done = rewind(kit.database)
    write(kit.database, 2, 4)
    told = list(seen.news())
    assert keys(told) == rows(kit.database, "seq > 2")
    assert [one.told.change for one in told[:3]] == ["rewound"] * 3
    assert {one.owner.epoch for one in first} == {done.previous_epoch}
    assert {one.owner.epoch for one in told} == {done.epoch}
