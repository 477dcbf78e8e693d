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
from msgspec import structs
from sqlalchemy import event, insert, text

from models import sink as tables
from models.change_event import ChangeKind
from models.resources import RESOURCES
from models.sink import SinkKind, SinkStart, SinkStatus
from sandbox.tenant import Nango, Tenant
from tests.support.mirror import fetch_scalar, read_last_seq
from worker.core.log import configure_logging
from worker.delivery.store import admin, sinks
from worker.delivery.store.lag import find_oldest_undelivered
from worker.delivery.store.lost_events import LostEvents, UndeliveredRange, list_lost
from worker.delivery.store.replay import find_replay_target, move_positions_back
from worker.delivery.store.retention import (
    RetentionDecision,
    RetentionOutcome,
    UndeliveredEvents,
    decide_retention,
    drop_expired_months,
    list_overdue_months,
)
from worker.events.append import append_events
from worker.events.partitions import (
    MonthPartition,
    add_months,
    ensure_partitions,
    has_unpartitioned_events,
    list_months,
)
from worker.events.start import FromSnapshot
from worker.store.engine import Database
from worker.store.lease import interrupt_writer
from worker.store.mirror.change import Change
from worker.sync.connections.discover import discover
from worker.sync.runtime import Runtime
from worker.tasks.maintenance import run_maintenance

DAYS, GRACE = 400, 30
OLD = 500
"""Days ago: past the keep and the grace, whatever the day of the month."""
Rows = list[dict[str, Any]]


class RetentionEnvironment:
    """Two customers whose events happened when a test says."""

    def __init__(self, runtime: Runtime, nango: Nango) -> None:
        self.database = runtime.database
        for name in ("contoso", "fabrikam"):
            nango.add_connection(name, Tenant(seed=len(name), users=1))
        discover(runtime.database, runtime.nango, runtime.settings)
        with self.database.open_transaction() as db:
            db.execute(text("update sync.connections set created_at = 'epoch'"))

    def write(self, count: int, connection_id: int = 1, *, days: float = 0) -> int:
        """Some events of so many days ago; the number of the last."""
        changes = [Change(ChangeKind.CREATED, str(n), None, None, b"{}") for n in range(count)]
        before = read_last_seq(self.database, connection_id)
        with interrupt_writer(self.database, connection_id) as tx:
            tx.moment -= timedelta(days=days)
            append_events(tx, [(RESOURCES["users"], changes)], run_id=None)
        return before + count

    def age_first(self, connection_id: int = 1, *, days: float) -> None:
        """The events that there are already happened so long ago."""
        with self.database.open_transaction() as db:
            db.execute(
                text(
                    "update events.change_events set occurred_at ="
                    " occurred_at - make_interval(days => :days) where connection_id = :id"
                ),
                {"id": connection_id, "days": days},
            )

    def month(self, days: float) -> MonthPartition:
        """The month so many days ago, with a partition."""
        now: datetime = fetch_scalar(self.database, "select now()")
        month = MonthPartition.containing(now - timedelta(days=days))
        with self.database.open_transaction() as db:
            if month not in list_months(db):
                db.execute(
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
        with self.database.open_transaction() as db:
            statement = insert(tables.sinks).values(values).returning(tables.sinks.c.id)
            return int(db.execute(statement).scalar_one())

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
        with self.database.open_transaction() as db:
            db.execute(statement, values)

    def has_had_all(self, sink_id: int) -> None:
        for connection_id in (1, 2):
            self.has_had(sink_id, read_last_seq(self.database, connection_id), connection_id)

    def there(self, month: MonthPartition) -> bool:
        return bool(
            fetch_scalar(self.database, "select to_regclass(:name) is not null", name=month.table)
        )

    def let_go(self, days: int = DAYS, grace: int = GRACE) -> list[RetentionOutcome]:
        return drop_expired_months(self.database, days, grace)

    def memories(self) -> list[LostEvents]:
        with self.database.open_transaction() as db:
            return list_lost(db)


@pytest.fixture
def environment(runtime: Runtime, nango: Nango) -> RetentionEnvironment:
    return RetentionEnvironment(runtime, nango)


@pytest.fixture
def old(environment: RetentionEnvironment) -> MonthPartition:
    """A month past its keep and every grace, with three events of the first customer."""
    month = environment.month(OLD)
    environment.age_first(1, days=OLD)
    environment.age_first(2, days=OLD)
    environment.write(2, days=OLD)
    return month


@pytest.fixture
def late(environment: RetentionEnvironment) -> MonthPartition:
    """A month past its keep, yet within the grace, with three events of the first customer."""
    days = DAYS + 31 + 15
    month = environment.month(days)
    environment.age_first(1, days=days)
    environment.age_first(2, days=days)
    environment.write(2, days=days)
    return month


GRACE_OF_LATE = 60


@pytest.fixture
def logged() -> Iterator[Callable[[], Rows]]:
    """What has been logged since the last time, as the service logs it."""
    root, kept = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    configure_logging("INFO", "json")
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


def test_a_month_that_nobody_waits_for_goes_without_a_word(
    environment: RetentionEnvironment, old: MonthPartition
) -> None:
    sink = environment.sink("crm")
    environment.write(3)
    environment.has_had_all(sink)
    environment.has_had(sink, 3)
    (outcome,) = environment.let_go()
    assert (outcome.month, outcome.decision, outcome.undelivered) == (
        old,
        RetentionDecision.DROPPED,
        [],
    )
    assert not environment.there(old)
    assert environment.memories() == []
    assert fetch_scalar(environment.database, "select min(seq) from events.change_events") == 4


def test_a_month_that_an_active_sink_lacks_is_kept_through_the_grace(
    environment: RetentionEnvironment, late: MonthPartition
) -> None:
    sink = environment.sink("crm")
    environment.write(2, days=1)
    environment.has_had(sink, 1)
    (outcome,) = environment.let_go(grace=GRACE_OF_LATE)
    assert outcome.decision is RetentionDecision.KEPT
    assert environment.there(late)
    (missed,) = outcome.undelivered
    assert (missed.sink, missed.status) == ("crm", SinkStatus.ACTIVE)
    assert (missed.event_count, missed.connection_count) == (3, 2), (
        "two of one customer, one of the other"
    )
    assert missed.since == fetch_scalar(
        environment.database,
        "select min(occurred_at) from events.change_events where connection_id = 2",
    )
    assert outcome.expires_at == late.compute_expiry(DAYS + GRACE_OF_LATE)
    assert environment.memories() == []
    environment.has_had_all(sink)
    environment.has_had(sink, 3)
    assert [one.decision for one in environment.let_go(grace=GRACE_OF_LATE)] == [
        RetentionDecision.DROPPED
    ]
    assert environment.memories() == []


def test_after_the_grace_it_goes_and_that_is_remembered(
    environment: RetentionEnvironment, old: MonthPartition
) -> None:
    sink = environment.sink("crm")
    environment.write(2, days=1)
    environment.has_had(sink, 1)
    (outcome,) = environment.let_go()
    assert outcome.decision is RetentionDecision.DROPPED
    assert not environment.there(old)
    (memory,) = environment.memories()
    assert (memory.sink_id, memory.month, memory.status) == (sink, old.label, "active")
    assert (memory.event_count, memory.connection_count) == (3, 2)
    assert [part[1:4] for part in memory.ranges] == [(1, 2, 3), (2, 1, 1)]
    assert environment.let_go() == []
    assert environment.memories() == [memory], "it is said until the sink is removed"


@pytest.mark.parametrize("status", [SinkStatus.PAUSED, SinkStatus.DISABLED])
def test_a_sink_that_stands_still_by_intent_holds_nothing_and_is_told_of(
    environment: RetentionEnvironment, late: MonthPartition, status: SinkStatus
) -> None:
    environment.sink("crm", status=status)
    (outcome,) = environment.let_go(grace=GRACE_OF_LATE)
    assert outcome.decision is RetentionDecision.DROPPED
    assert [memory.status for memory in environment.memories()] == [status.value]


def test_a_snapshot_under_way_needs_what_came_after_its_cut(
    environment: RetentionEnvironment, late: MonthPartition
) -> None:
    sink = environment.sink("crm", start=SinkStart.SNAPSHOT)
    environment.has_had_all(sink)
    environment.has_had(sink, 2, snapshot={"resource": "users"})
    (outcome,) = environment.let_go(grace=GRACE_OF_LATE)
    assert outcome.decision is RetentionDecision.KEPT
    assert [(part.first, part.last) for part in outcome.undelivered[0].ranges] == [(3, 3)]
    environment.has_had(sink, 3, snapshot={"resource": "users"})
    assert [one.decision for one in environment.let_go(grace=GRACE_OF_LATE)] == [
        RetentionDecision.DROPPED
    ]


def test_a_sink_only_waits_for_connections_that_it_follows(
    environment: RetentionEnvironment, late: MonthPartition
) -> None:
    sink = environment.sink("crm", connections=[2])
    environment.has_had(sink, 1, 2)
    assert [one.decision for one in environment.let_go(grace=GRACE_OF_LATE)] == [
        RetentionDecision.DROPPED
    ]


def test_no_later_month_goes_before_one_that_is_kept(
    environment: RetentionEnvironment, late: MonthPartition
) -> None:
    """A hole in the middle of a sequence would look like loss to whoever verifies it."""
    later = environment.month(DAYS + 31 + 15 - 40)
    assert later.first > late.first
    environment.sink("crm", connections=[1])
    outcomes = environment.let_go(days=DAYS - 60, grace=200)
    assert [(one.month, one.decision) for one in outcomes] == [(late, RetentionDecision.KEPT)]
    assert environment.there(later)


def test_a_memory_ends_with_its_sink(
    environment: RetentionEnvironment, old: MonthPartition
) -> None:
    environment.sink("crm")
    environment.let_go()
    assert len(environment.memories()) == 1
    with environment.database.open_transaction() as db:
        admin.remove_sink(db, "crm")
    assert environment.memories() == []
    environment.let_go()
    left = "select count(*) from sync.service_state where name like 'events_dropped%'"
    assert fetch_scalar(environment.database, left) == 0


def test_a_snapshot_makes_good_what_was_lost(
    environment: RetentionEnvironment, old: MonthPartition
) -> None:
    environment.sink("other")
    environment.sink("crm")
    environment.let_go()
    assert len(environment.memories()) == 2
    for number, left in ((2, [(1, 1, 3)]), (1, None)):
        with environment.database.open_transaction() as db:
            sink = replace(find_replay_target(db, "crm"), connection_ids=frozenset({number}))
            move_positions_back(db, sink, FromSnapshot())
        other, *mine = environment.memories()
        assert other.connection_count == 2
        assert [[part[1:4] for part in one.ranges] for one in mine] == ([left] if left else [])


def test_a_reader_is_neither_waited_for_nor_harmed(
    environment: RetentionEnvironment, old: MonthPartition
) -> None:
    environment.sink("crm")
    other = Database(environment.database.url.render_as_string(hide_password=False))
    with other.open_transaction() as reading:
        assert reading.execute(text("select count(*) from events.change_events")).scalar_one()
        began = datetime.now(UTC)
        assert [one.decision for one in environment.let_go()] == [RetentionDecision.BUSY]
        assert datetime.now(UTC) - began < timedelta(seconds=5)
        assert environment.there(old)
        assert environment.memories() == [], "nothing is remembered that has not happened"
    other.close()
    assert [one.decision for one in environment.let_go()] == [RetentionDecision.DROPPED]
    assert len(environment.memories()) == 1


def test_two_that_keep_house_at_once_drop_a_month_once(
    environment: RetentionEnvironment, old: MonthPartition
) -> None:
    environment.sink("crm")
    found: list[list[RetentionOutcome]] = []
    databases = [
        Database(environment.database.url.render_as_string(hide_password=False)) for _ in range(2)
    ]
    threads = [
        threading.Thread(target=lambda it=it: found.append(drop_expired_months(it, DAYS, GRACE)))
        for it in databases
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for it in databases:
        it.close()
    fates = [outcome.decision for outcomes in found for outcome in outcomes]
    assert fates == [RetentionDecision.DROPPED]
    assert len(environment.memories()) == 1


def test_nothing_is_dropped_in_silence(
    environment: RetentionEnvironment,
    runtime: Runtime,
    old: MonthPartition,
    logged: Callable[[], Rows],
) -> None:
    """Whoever lacks an event that goes: the log says it at once, and the memory ever after."""
    had = environment.sink("had")
    environment.has_had_all(had)
    lacking = {
        "failing": environment.sink("failing"),
        "paused": environment.sink("paused", status=SinkStatus.PAUSED),
        "switched-off": environment.sink("switched-off", status=SinkStatus.DISABLED),
        "narrow": environment.sink("narrow", connections=[2]),
        "halfway": environment.sink("halfway"),
    }
    environment.has_had(lacking["halfway"], 2)
    run_maintenance(runtime)
    assert not environment.there(old)
    lines = [line for line in logged() if line["level"] == "error"]
    counts = {"failing": 4, "paused": 4, "switched-off": 4, "narrow": 1, "halfway": 2}
    assert {line["sink"]: line["event_count"] for line in lines} == counts
    assert all("--from snapshot" in line["hint"] for line in lines)
    names = {number: name for name, number in lacking.items()}
    assert {
        names[memory.sink_id]: memory.event_count for memory in environment.memories()
    } == counts


def test_a_month_that_is_kept_is_told_each_hour(
    environment: RetentionEnvironment,
    runtime: Runtime,
    late: MonthPartition,
    logged: Callable[[], Rows],
) -> None:
    environment.sink("crm")
    environment.sink("waiting", status=SinkStatus.PAUSED)
    mine = Runtime(
        runtime.database,
        runtime.nango,
        structs.replace(runtime.settings, events_grace_days=GRACE_OF_LATE),
    )
    for _ in range(2):
        run_maintenance(mine)
        (line,) = [line for line in logged() if line["level"] == "error"]
        assert (line["sink"], line["month"], line["event_count"]) == ("crm", late.label, 4)
        assert "sinks pause" in line["hint"]
        assert line["chore"] == "partitions_dropped"
    assert environment.there(late)


def test_a_chore_that_fails_stops_no_other(
    environment: RetentionEnvironment,
    runtime: Runtime,
    old: MonthPartition,
    logged: Callable[[], Rows],
) -> None:
    """No month can be made or dropped while somebody holds the table; the rest goes on."""
    coming = MonthPartition.containing(
        add_months(fetch_scalar(environment.database, "select now()"), 3)
    )
    with environment.database.open_transaction() as db:
        db.execute(text(f"drop table {coming.table}"))
        db.execute(
            text(
                "insert into sync.runs (connection_id, trigger, state, finished_at)"
                " values (1, 'manual', 'failed', 'epoch')"
            )
        )
    other = Database(environment.database.url.render_as_string(hide_password=False))
    with other.open_transaction() as reading:
        reading.execute(text("lock table events.change_events_default in access share mode"))
        run_maintenance(runtime)
    other.close()
    lines = logged()
    told = [(line["level"], line.get("chore")) for line in lines]
    assert ("warning", "partitions_created") in told
    done = next(line for line in lines if line["event"] == "maintenance done")
    assert "partitions_created" not in done
    assert (done["partitions_dropped"], done["runs_purged"]) == ([], 1)
    run_maintenance(runtime)
    assert (environment.there(coming), environment.there(old)) == (True, False), (
        "the next hour does it"
    )


def test_a_write_never_fails_for_want_of_a_month(environment: RetentionEnvironment) -> None:
    now: datetime = fetch_scalar(environment.database, "select now()")
    this, coming = MonthPartition.containing(now), MonthPartition.containing(add_months(now, 2))
    with environment.database.open_transaction() as connection:
        for month in (this, coming):
            connection.execute(text(f"drop table {month.table}"))
        assert not has_unpartitioned_events(connection)
    seq = environment.write(3)
    with environment.database.open_transaction() as db:
        assert has_unpartitioned_events(db)
        assert ensure_partitions(db) == [coming.table], "this one's rows stay where they are"
    found = "select max(seq) from events.change_events where connection_id = 1"
    assert fetch_scalar(environment.database, found) == seq
    assert environment.write(1) == seq + 1


def test_a_month_is_made_while_others_write(environment: RetentionEnvironment) -> None:
    """Even one who has written and not committed yet holds up no partition, nor the reverse."""
    coming = MonthPartition.containing(
        add_months(fetch_scalar(environment.database, "select now()"), 3)
    )
    with environment.database.open_transaction() as connection:
        connection.execute(text(f"drop table {coming.table}"))
    other = Database(environment.database.url.render_as_string(hide_password=False))
    with interrupt_writer(other, 1) as tx:
        changes = [Change(ChangeKind.CREATED, "1", None, None, b"{}")]
        append_events(tx, [(RESOURCES["users"], changes)], run_id=None)
        with environment.database.open_transaction() as connection:
            connection.execute(text("set local lock_timeout = '2s'"))
            assert ensure_partitions(connection) == [coming.table]
    other.close()
    with environment.database.open_transaction() as db:
        assert coming in list_months(db)
    columns = """
        select count(*) from pg_attribute a
         where a.attrelid = cast(:name as regclass) and a.attnum > 0 and a.attnotnull
    """
    made, parent = (
        fetch_scalar(environment.database, columns, name=name)
        for name in (coming.table, "events.change_events")
    )
    assert made == parent


def test_what_is_overdue_can_be_looked_at(
    environment: RetentionEnvironment, late: MonthPartition
) -> None:
    environment.sink("crm", status=SinkStatus.PAUSED)
    with environment.database.open_transaction() as connection:
        (outcome,) = list_overdue_months(connection, DAYS, GRACE)
        assert [one.sink for one in outcome.undelivered] == ["crm"]
    with environment.database.open_transaction() as db:
        assert list_overdue_months(db, DAYS + 200, GRACE) == []


def test_the_oldest_event_that_waits_is_found_among_many(
    environment: RetentionEnvironment, late: MonthPartition
) -> None:
    """The position of a quiet customer is old and its next event new; another's is the reverse."""
    behind, even = environment.sink("behind"), environment.sink("even")
    environment.write(1, 2, days=3)
    environment.write(4, 1, days=5)
    environment.has_had_all(even)
    environment.has_had(behind, 1, 2)
    environment.has_had(behind, 5, 1)
    times = "select occurred_at from events.change_events where connection_id = :id and seq = :seq"
    with environment.database.open_transaction() as connection:
        assert find_oldest_undelivered(connection) == {
            behind: fetch_scalar(environment.database, times, id=1, seq=6)
        }
    environment.has_had(behind, 7, 1)
    environment.has_had(behind, 0, 2)
    with environment.database.open_transaction() as db:
        assert find_oldest_undelivered(db) == {
            behind: fetch_scalar(environment.database, times, id=2, seq=1)
        }


def test_the_oldest_events_of_many_sinks_take_no_more_statements_than_of_one(
    environment: RetentionEnvironment, late: MonthPartition
) -> None:
    environment.write(1, 2, days=3)
    first = environment.sink("first")
    seen: list[str] = []

    def note(*args: object) -> None:
        seen.append(str(args[2]))

    engine = environment.database._engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        with environment.database.open_transaction() as db:
            of_one = find_oldest_undelivered(db)
        number = len(seen)
        others = [environment.sink(f"other-{one}") for one in range(20)]
        seen.clear()
        with environment.database.open_transaction() as db:
            of_all = find_oldest_undelivered(db)
    finally:
        event.remove(engine, "before_cursor_execute", note)
    assert len(seen) == number
    assert of_all == dict.fromkeys([first, *others], of_one[first])


def test_a_sink_is_not_moved_behind_the_back_of_who_decides(
    environment: RetentionEnvironment, late: MonthPartition
) -> None:
    """It is set back to the first event in the moment between the look and the drop."""
    sink = environment.sink("crm")
    environment.has_had_all(sink)
    environment.has_had(sink, 3)
    other = Database(environment.database.url.render_as_string(hide_password=False))
    with other.open_transaction() as moving:
        sinks.fence_sink(moving, sink)
        moving.execute(text("delete from events.positions where sink_id = :id"), {"id": sink})
        assert [one.decision for one in environment.let_go(grace=GRACE_OF_LATE)] == [
            RetentionDecision.BUSY
        ]
    other.close()
    assert [one.decision for one in environment.let_go(grace=GRACE_OF_LATE)] == [
        RetentionDecision.KEPT
    ]


def one_missed(month: MonthPartition, status: SinkStatus) -> UndeliveredEvents:
    return UndeliveredEvents(1, "crm", status, month, [UndeliveredRange(1, 1, 1, 1, month.first)])


def test_the_grace_ends_on_its_day() -> None:
    month = MonthPartition.containing(datetime(2025, 3, 9, tzinfo=UTC))
    end = month.compute_expiry(DAYS + GRACE)
    lacking = [one_missed(month, SinkStatus.ACTIVE), one_missed(month, SinkStatus.PAUSED)]
    assert (
        decide_retention(month, lacking, end - timedelta(seconds=1), DAYS, GRACE)
        is RetentionDecision.KEPT
    )
    assert decide_retention(month, lacking, end, DAYS, GRACE) is RetentionDecision.DROPPED
    assert (
        decide_retention(month, lacking, month.compute_expiry(DAYS), DAYS, 0)
        is RetentionDecision.DROPPED
    )
    assert (
        decide_retention(month, lacking[1:], month.compute_expiry(DAYS), DAYS, GRACE)
        is RetentionDecision.DROPPED
    )
    assert (
        decide_retention(month, [], month.compute_expiry(DAYS), DAYS, GRACE)
        is RetentionDecision.DROPPED
    )
