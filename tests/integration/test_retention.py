"""Old events go, never past a sink without a word, and no write ever waits for a month to exist."""

import io
import json
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog
from sqlalchemy import insert, text

from models import sink as tables
from models.change_event import ChangeKind
from models.resources import RESOURCES
from models.sink import SinkKind, SinkStart, SinkStatus
from sandbox.tenant import Nango, Tenant
from tests.support.mirror import last_seq, scalar
from worker.core.beginning import Snapshot
from worker.core.log import configure
from worker.events.ledger import append
from worker.events.partitions import Month, any_outside, ensure_partitions, month_after, months
from worker.events.retention import Fate, Missed, Outcome, decide, let_go, overdue
from worker.store import sink_admin, sinks
from worker.store.change import Change
from worker.store.dropped import Memory, Part, recalled
from worker.store.engine import Database
from worker.store.lease import interrupting
from worker.store.replay import replay, target
from worker.store.sink_lag import oldest_undelivered
from worker.sync.discover import discover
from worker.sync.run import Kit
from worker.tasks.maintenance import keep_house

DAYS, GRACE = 400, 30
OLD = 500
"""Days ago: past the keep and the grace, whatever the day of the month."""
Rows = list[dict[str, Any]]


class Ground:
    """Two customers whose events happened when a test says."""

    def __init__(self, kit: Kit, nango: Nango) -> None:
        self.database = kit.database
        for name in ("contoso", "fabrikam"):
            nango.add_connection(name, Tenant(seed=len(name), users=1))
        discover(kit.database, kit.nango, kit.settings)
        with self.database.begin() as connection:
            connection.execute(text("update sync.connections set created_at = 'epoch'"))

    def write(self, count: int, connection_id: int = 1, *, days: float = 0) -> int:
        """Some events of so many days ago; the number of the last."""
        changes = [Change(ChangeKind.CREATED, str(n), None, None, b"{}") for n in range(count)]
        before = last_seq(self.database, connection_id)
        with interrupting(self.database, connection_id) as tx:
            tx.moment -= timedelta(days=days)
            append(tx, [(RESOURCES["users"], changes)], run_id=None)
        return before + count

    def age_first(self, connection_id: int = 1, *, days: float) -> None:
        """The events that there are already happened so long ago."""
        with self.database.begin() as connection:
            connection.execute(
                text(
                    "update events.change_events set occurred_at ="
                    " occurred_at - make_interval(days => :days) where connection_id = :id"
                ),
                {"id": connection_id, "days": days},
            )

    def month(self, days: float) -> Month:
        """The month so many days ago, with a partition."""
        now: datetime = scalar(self.database, "select now()")
        month = Month.at(now - timedelta(days=days))
        with self.database.begin() as connection:
            if month not in months(connection):
                connection.execute(
                    text(
                        f"create table {month.table} partition of events.change_events"
                        f" for values from ('{month.first:%Y-%m-%d}+00')"
                        f" to ('{month.end:%Y-%m-%d}+00')"
                    )
                )
        return month

    def sink(self, name: str, **more: Any) -> int:
        """A sink that is to have every event; ``upto`` says what it has had."""
        values = {"name": name, "kind": SinkKind.WEBHOOK, "start": SinkStart.OLDEST, **more}
        with self.database.begin() as connection:
            statement = insert(tables.sinks).values(values).returning(tables.sinks.c.id)
            return int(connection.execute(statement).scalar_one())

    def has_had(self, sink_id: int, seq: int, connection_id: int = 1, **more: Any) -> None:
        """A sink has had everything up to an event."""
        statement = text("""
            insert into events.positions (sink_id, connection_id, seq, occurred_at, snapshot)
            select :sink, :id, :seq, (select occurred_at from events.change_events
                                       where connection_id = :id and seq = :seq),
                   cast(:snapshot as jsonb)
                on conflict (sink_id, connection_id) do update
               set seq = excluded.seq, occurred_at = excluded.occurred_at,
                   snapshot = excluded.snapshot
        """)
        snapshot = json.dumps(more["snapshot"]) if "snapshot" in more else None
        values = {"sink": sink_id, "id": connection_id, "seq": seq, "snapshot": snapshot}
        with self.database.begin() as connection:
            connection.execute(statement, values)

    def has_had_all(self, sink_id: int) -> None:
        for connection_id in (1, 2):
            self.has_had(sink_id, last_seq(self.database, connection_id), connection_id)

    def there(self, month: Month) -> bool:
        return bool(
            scalar(self.database, "select to_regclass(:name) is not null", name=month.table)
        )

    def let_go(self, days: int = DAYS, grace: int = GRACE) -> list[Outcome]:
        return let_go(self.database, days, grace)

    def memories(self) -> list[Memory]:
        with self.database.begin() as connection:
            return recalled(connection)


@pytest.fixture
def ground(kit: Kit, nango: Nango) -> Ground:
    return Ground(kit, nango)


@pytest.fixture
def old(ground: Ground) -> Month:
    """A month past its keep and every grace, with three events of the first customer."""
    month = ground.month(OLD)
    ground.age_first(1, days=OLD)
    ground.age_first(2, days=OLD)
    ground.write(2, days=OLD)
    return month


@pytest.fixture
def late(ground: Ground) -> Month:
    """A month past its keep, yet within the grace, with three events of the first customer."""
    days = DAYS + 31 + 15
    month = ground.month(days)
    ground.age_first(1, days=days)
    ground.age_first(2, days=days)
    ground.write(2, days=days)
    return month


GRACE_OF_LATE = 60


@pytest.fixture
def logged() -> Iterator[Callable[[], Rows]]:
    """What has been logged since the last time, as the service logs it."""
    root, kept = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    configure("INFO", "json")
    (handler,) = root.handlers
    assert isinstance(handler, logging.StreamHandler)

    def lines() -> Rows:
        written = handler.setStream(io.StringIO())
        assert isinstance(written, io.StringIO)
        return [json.loads(line) for line in written.getvalue().splitlines()]

    handler.setStream(io.StringIO())
    yield lines
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**kept)


def test_a_month_that_nobody_waits_for_goes_without_a_word(ground: Ground, old: Month) -> None:
    sink = ground.sink("crm")
    ground.write(3)
    ground.has_had_all(sink)
    ground.has_had(sink, 3)
    (outcome,) = ground.let_go()
    assert (outcome.month, outcome.fate, outcome.missed) == (old, Fate.DROPPED, [])
    assert not ground.there(old)
    assert ground.memories() == []
    assert scalar(ground.database, "select min(seq) from events.change_events") == 4


def test_a_month_that_an_active_sink_lacks_is_kept_through_the_grace(
    ground: Ground, late: Month
) -> None:
    sink = ground.sink("crm")
    ground.write(2, days=1)
    ground.has_had(sink, 1)
    (outcome,) = ground.let_go(grace=GRACE_OF_LATE)
    assert outcome.fate is Fate.KEPT
    assert ground.there(late)
    (missed,) = outcome.missed
    assert (missed.sink, missed.status) == ("crm", SinkStatus.ACTIVE)
    assert (missed.events, missed.connections) == (3, 2), "two of one customer, one of the other"
    assert missed.since == scalar(
        ground.database, "select min(occurred_at) from events.change_events where connection_id = 2"
    )
    assert outcome.goes_at == late.goes_at(DAYS + GRACE_OF_LATE)
    assert ground.memories() == []
    ground.has_had_all(sink)
    ground.has_had(sink, 3)
    assert [one.fate for one in ground.let_go(grace=GRACE_OF_LATE)] == [Fate.DROPPED]
    assert ground.memories() == []


def test_after_the_grace_it_goes_and_that_is_remembered(ground: Ground, old: Month) -> None:
    sink = ground.sink("crm")
    ground.write(2, days=1)
    ground.has_had(sink, 1)
    (outcome,) = ground.let_go()
    assert outcome.fate is Fate.DROPPED
    assert not ground.there(old)
    (memory,) = ground.memories()
    assert (memory.sink_id, memory.month, memory.status) == (sink, old.label, "active")
    assert (memory.events, memory.connections) == (3, 2)
    assert [part[1:4] for part in memory.parts] == [(1, 2, 3), (2, 1, 1)]
    assert ground.let_go() == []
    assert ground.memories() == [memory], "it is said until the sink is removed"


@pytest.mark.parametrize("status", [SinkStatus.PAUSED, SinkStatus.DISABLED])
def test_a_sink_that_stands_still_by_intent_holds_nothing_and_is_told_of(
    ground: Ground, late: Month, status: SinkStatus
) -> None:
    ground.sink("crm", status=status)
    (outcome,) = ground.let_go(grace=GRACE_OF_LATE)
    assert outcome.fate is Fate.DROPPED
    assert [memory.status for memory in ground.memories()] == [status.value]


def test_a_snapshot_under_way_needs_what_came_after_its_cut(ground: Ground, late: Month) -> None:
    sink = ground.sink("crm", start=SinkStart.SNAPSHOT)
    ground.has_had_all(sink)
    ground.has_had(sink, 2, snapshot={"resource": "users"})
    (outcome,) = ground.let_go(grace=GRACE_OF_LATE)
    assert outcome.fate is Fate.KEPT
    assert [(part.first, part.last) for part in outcome.missed[0].parts] == [(3, 3)]
    ground.has_had(sink, 3, snapshot={"resource": "users"})
    assert [one.fate for one in ground.let_go(grace=GRACE_OF_LATE)] == [Fate.DROPPED]


def test_a_sink_only_waits_for_connections_that_it_follows(ground: Ground, late: Month) -> None:
    sink = ground.sink("crm", connections=[2])
    ground.has_had(sink, 1, 2)
    assert [one.fate for one in ground.let_go(grace=GRACE_OF_LATE)] == [Fate.DROPPED]


def test_no_later_month_goes_before_one_that_is_kept(ground: Ground, late: Month) -> None:
    """A hole in the middle of a sequence would look like loss to whoever verifies it."""
    later = ground.month(DAYS + 31 + 15 - 40)
    assert later.first > late.first
    ground.sink("crm", connections=[1])
    outcomes = ground.let_go(days=DAYS - 60, grace=200)
    assert [(one.month, one.fate) for one in outcomes] == [(late, Fate.KEPT)]
    assert ground.there(later)


def test_a_memory_ends_with_its_sink(ground: Ground, old: Month) -> None:
    ground.sink("crm")
    ground.let_go()
    assert len(ground.memories()) == 1
    with ground.database.begin() as connection:
        sink_admin.remove(connection, "crm")
    assert ground.memories() == []
    ground.let_go()
    left = "select count(*) from sync.service_state where name like 'events_dropped%'"
    assert scalar(ground.database, left) == 0


def test_a_snapshot_makes_good_what_was_lost(ground: Ground, old: Month) -> None:
    ground.sink("other")
    ground.sink("crm")
    ground.let_go()
    assert len(ground.memories()) == 2
    for number, left in ((2, [(1, 1, 3)]), (1, None)):
        with ground.database.begin() as connection:
            sink = replace(target(connection, "crm"), only=frozenset({number}))
            replay(connection, sink, Snapshot())
        other, *mine = ground.memories()
        assert other.connections == 2
        assert [[part[1:4] for part in one.parts] for one in mine] == ([left] if left else [])


def test_a_reader_is_neither_waited_for_nor_harmed(ground: Ground, old: Month) -> None:
    ground.sink("crm")
    other = Database(ground.database.url.render_as_string(hide_password=False))
    with other.begin() as reading:
        assert reading.execute(text("select count(*) from events.change_events")).scalar_one()
        began = datetime.now(UTC)
        assert [one.fate for one in ground.let_go()] == [Fate.BUSY]
        assert datetime.now(UTC) - began < timedelta(seconds=5)
        assert ground.there(old)
        assert ground.memories() == [], "nothing is remembered that has not happened"
    other.close()
    assert [one.fate for one in ground.let_go()] == [Fate.DROPPED]
    assert len(ground.memories()) == 1


def test_two_that_keep_house_at_once_drop_a_month_once(ground: Ground, old: Month) -> None:
    ground.sink("crm")
    found: list[list[Outcome]] = []
    databases = [
        Database(ground.database.url.render_as_string(hide_password=False)) for _ in range(2)
    ]
    threads = [
        threading.Thread(target=lambda it=it: found.append(let_go(it, DAYS, GRACE)))
        for it in databases
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for it in databases:
        it.close()
    fates = [outcome.fate for outcomes in found for outcome in outcomes]
    assert fates == [Fate.DROPPED]
    assert len(ground.memories()) == 1


def test_nothing_is_dropped_in_silence(
    ground: Ground, kit: Kit, old: Month, logged: Callable[[], Rows]
) -> None:
    """Whoever lacks an event that goes: the log says it at once, and the memory ever after."""
    had = ground.sink("had")
    ground.has_had_all(had)
    lacking = {
        "failing": ground.sink("failing"),
        "paused": ground.sink("paused", status=SinkStatus.PAUSED),
        "switched-off": ground.sink("switched-off", status=SinkStatus.DISABLED),
        "narrow": ground.sink("narrow", connections=[2]),
        "halfway": ground.sink("halfway"),
    }
    ground.has_had(lacking["halfway"], 2)
    keep_house(kit)
    assert not ground.there(old)
    lines = [line for line in logged() if line["level"] == "error"]
    counts = {"failing": 4, "paused": 4, "switched-off": 4, "narrow": 1, "halfway": 2}
    assert {line["sink"]: line["events"] for line in lines} == counts
    assert all("--from snapshot" in line["do"] for line in lines)
    names = {number: name for name, number in lacking.items()}
    assert {names[memory.sink_id]: memory.events for memory in ground.memories()} == counts


def test_a_month_that_is_kept_is_told_each_hour(
    ground: Ground, kit: Kit, late: Month, logged: Callable[[], Rows]
) -> None:
    ground.sink("crm")
    ground.sink("waiting", status=SinkStatus.PAUSED)
    mine = Kit(
        kit.database,
        kit.nango,
        replace(kit.settings, events_grace_days=GRACE_OF_LATE),
    )
    for _ in range(2):
        keep_house(mine)
        (line,) = [line for line in logged() if line["level"] == "error"]
        assert (line["sink"], line["month"], line["events"]) == ("crm", late.label, 4)
        assert "sinks pause" in line["do"]
        assert line["chore"] == "dropped"
    assert ground.there(late)


def test_a_chore_that_fails_stops_no_other(
    ground: Ground, kit: Kit, old: Month, logged: Callable[[], Rows]
) -> None:
    """No month can be made or dropped while somebody holds the table; the rest goes on."""
    coming = Month.at(month_after(scalar(ground.database, "select now()"), 3))
    with ground.database.begin() as connection:
        connection.execute(text(f"drop table {coming.table}"))
        connection.execute(
            text(
                "insert into sync.runs (connection_id, trigger, state, finished_at)"
                " values (1, 'manual', 'failed', 'epoch')"
            )
        )
    other = Database(ground.database.url.render_as_string(hide_password=False))
    with other.begin() as reading:
        reading.execute(text("lock table events.change_events_default in access share mode"))
        keep_house(kit)
    other.close()
    lines = logged()
    told = [(line["level"], line.get("chore")) for line in lines]
    assert ("warning", "made") in told
    done = next(line for line in lines if line["event"] == "kept house")
    assert "made" not in done
    assert (done["dropped"], done["runs"]) == ([], 1)
    keep_house(kit)
    assert (ground.there(coming), ground.there(old)) == (True, False), "the next hour does it"


def test_a_write_never_fails_for_want_of_a_month(ground: Ground) -> None:
    now: datetime = scalar(ground.database, "select now()")
    this, coming = Month.at(now), Month.at(month_after(now, 2))
    with ground.database.begin() as connection:
        for month in (this, coming):
            connection.execute(text(f"drop table {month.table}"))
        assert not any_outside(connection)
    seq = ground.write(3)
    with ground.database.begin() as connection:
        assert any_outside(connection)
        assert ensure_partitions(connection) == [coming.table], (
            "this one's rows stay where they are"
        )
    found = "select max(seq) from events.change_events where connection_id = 1"
    assert scalar(ground.database, found) == seq
    assert ground.write(1) == seq + 1


def test_a_month_is_made_while_others_write(ground: Ground) -> None:
    """Even one who has written and not committed yet holds up no partition, nor the reverse."""
    coming = Month.at(month_after(scalar(ground.database, "select now()"), 3))
    with ground.database.begin() as connection:
        connection.execute(text(f"drop table {coming.table}"))
    other = Database(ground.database.url.render_as_string(hide_password=False))
    with interrupting(other, 1) as tx:
        changes = [Change(ChangeKind.CREATED, "1", None, None, b"{}")]
        append(tx, [(RESOURCES["users"], changes)], run_id=None)
        with ground.database.begin() as connection:
            connection.execute(text("set local lock_timeout = '2s'"))
            assert ensure_partitions(connection) == [coming.table]
    other.close()
    with ground.database.begin() as connection:
        assert coming in months(connection)
    columns = """
        select count(*) from pg_attribute a
         where a.attrelid = cast(:name as regclass) and a.attnum > 0 and a.attnotnull
    """
    made, parent = (
        scalar(ground.database, columns, name=name)
        for name in (coming.table, "events.change_events")
    )
    assert made == parent


def test_what_is_overdue_can_be_looked_at(ground: Ground, late: Month) -> None:
    ground.sink("crm", status=SinkStatus.PAUSED)
    with ground.database.begin() as connection:
        (outcome,) = overdue(connection, DAYS, GRACE)
        assert [one.sink for one in outcome.missed] == ["crm"]
    with ground.database.begin() as connection:
        assert overdue(connection, DAYS + 200, GRACE) == []


def test_the_oldest_event_that_waits_is_found_among_many(ground: Ground, late: Month) -> None:
    """The position of a quiet customer is old and its next event new; another's is the reverse."""
    behind, even = ground.sink("behind"), ground.sink("even")
    ground.write(1, 2, days=3)
    ground.write(4, 1, days=5)
    ground.has_had_all(even)
    ground.has_had(behind, 1, 2)
    ground.has_had(behind, 5, 1)
    times = "select occurred_at from events.change_events where connection_id = :id and seq = :seq"
    with ground.database.begin() as connection:
        assert oldest_undelivered(connection) == {
            behind: scalar(ground.database, times, id=1, seq=6)
        }
    ground.has_had(behind, 7, 1)
    ground.has_had(behind, 0, 2)
    with ground.database.begin() as connection:
        assert oldest_undelivered(connection) == {
            behind: scalar(ground.database, times, id=2, seq=1)
        }


def test_a_sink_is_not_moved_behind_the_back_of_who_decides(ground: Ground, late: Month) -> None:
    """It is set back to the first event in the moment between the look and the drop."""
    sink = ground.sink("crm")
    ground.has_had_all(sink)
    ground.has_had(sink, 3)
    other = Database(ground.database.url.render_as_string(hide_password=False))
    with other.begin() as moving:
        sinks.seize(moving, sink)
        moving.execute(text("delete from events.positions where sink_id = :id"), {"id": sink})
        assert [one.fate for one in ground.let_go(grace=GRACE_OF_LATE)] == [Fate.BUSY]
    other.close()
    assert [one.fate for one in ground.let_go(grace=GRACE_OF_LATE)] == [Fate.KEPT]


def one_missed(month: Month, status: SinkStatus) -> Missed:
    return Missed(1, "crm", status, month, [Part(1, 1, 1, 1, month.first)])


def test_the_grace_ends_on_its_day() -> None:
    month = Month.at(datetime(2025, 3, 9, tzinfo=UTC))
    end = month.goes_at(DAYS + GRACE)
    lacking = [one_missed(month, SinkStatus.ACTIVE), one_missed(month, SinkStatus.PAUSED)]
    assert decide(month, lacking, end - timedelta(seconds=1), DAYS, GRACE) is Fate.KEPT
    assert decide(month, lacking, end, DAYS, GRACE) is Fate.DROPPED
    assert decide(month, lacking, month.goes_at(DAYS), DAYS, 0) is Fate.DROPPED
    assert decide(month, lacking[1:], month.goes_at(DAYS), DAYS, GRACE) is Fate.DROPPED
    assert decide(month, [], month.goes_at(DAYS), DAYS, GRACE) is Fate.DROPPED
