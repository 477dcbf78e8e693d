"""A tick is run once an interval, by Postgres's clock, however many messages come and whenever."""

import threading
from datetime import timedelta

import pytest
from sqlalchemy import text

from models.queues import ALL_QUEUES
from tests.support.leases import take_lease
from tests.support.mirror import Mirror, fetch_scalar
from worker.conditions.condition import Code
from worker.core.errors import LeaseLost
from worker.overview.fleet import Fleet, load_fleet
from worker.store import lease
from worker.store.engine import Database
from worker.store.service.facts import (
    claim_discovery,
    is_halted,
    note_halt,
    note_key,
    note_tick,
)
from worker.store.service.host_clocks import SKEW_SECONDS, measure_clock_offset
from worker.store.service.service_facts import load_service_facts
from worker.store.service.tick import claim_tick, shift_timers_back
from worker.store.service.workers import list_workers, report_worker
from worker.sync.finish.approve import reject_held
from worker.sync.runtime import Runtime
from worker.tasks.dispatch import claim_due_connections
from worker.tasks.schedule import try_claim_tick

HOUR = 3600


def turn(database: Database, seconds: float) -> float | None:
    with database.open_transaction() as db:
        return claim_tick(db, seconds)


def age_turn(database: Database, seconds: float) -> None:
    """Have the last turn taken so many seconds ago; negative: later than now."""
    with database.open_transaction() as db:
        db.execute(
            text("""
                update sync.service_state
                   set updated_at = clock_timestamp() - make_interval(secs => :seconds)
                 where name = 'tick-turn'
            """),
            {"seconds": seconds},
        )


def test_a_tick_that_comes_late_is_no_tick(database: Database) -> None:
    assert turn(database, 30) == 0.0, "the first ever"
    assert [turn(database, 30) for _ in range(50)] == [None] * 50
    age_turn(database, 29)
    assert turn(database, 30) is None
    age_turn(database, 31)
    assert turn(database, 30) == 0.0


def test_of_ticks_that_come_together_one_is_run(runtime: Runtime) -> None:
    taken: list[bool] = []
    together = threading.Barrier(8)

    def one() -> None:
        together.wait()
        taken.append(try_claim_tick(runtime))

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == [False] * 7 + [True]


@pytest.mark.parametrize("back", [4, HOUR, 30 * 86_400])
def test_a_turn_of_a_time_to_come_holds_up_no_tick(database: Database, back: int) -> None:
    turn(database, 30)
    age_turn(database, -back)
    assert turn(database, 30) == pytest.approx(back, abs=1)
    assert turn(database, 30) is None


def test_a_clock_that_is_corrected_by_little_is_not_set_back(database: Database) -> None:
    turn(database, 30)
    age_turn(database, -0.5)
    assert turn(database, 30) == 0.0


_AHEAD = """
    update {table} set {column} = {column} + interval '1 hour' where {column} is not null
"""


def set_back(database: Database) -> None:
    """All that is stored is of a clock that was an hour ahead, as after it was set right."""
    with database.open_transaction() as db:
        for table, column in (
            ("sync.connections", "due_at"),
            ("sync.streams", "due_at"),
            ("sync.streams", "full_due_at"),
            ("sync.leases", "expires_at"),
            ("sync.workers", "seen_at"),
            ("sync.service_state", "updated_at"),
        ):
            db.execute(text(_AHEAD.format(table=table, column=column)))


def test_after_postgres_clock_was_set_back_nothing_waits_an_hour(mirror: Mirror) -> None:
    database = mirror.database
    zombie = take_lease(database, 1, seconds=60)
    with database.open_transaction() as connection:
        connection.execute(text("update sync.connections set due_at = clock_timestamp()"))
        connection.execute(text("update sync.streams set due_at = clock_timestamp()"))
        note_tick(connection)
        note_halt(connection, "a wrong key")
        claim_discovery(connection, 60)
        report_worker(connection, "worker@a:1:2:3", ["manual"], ["a:1:2:3"])
    try_claim_tick(mirror.runtime)
    set_back(database)
    with database.open_transaction() as connection:
        connection.execute(
            text(
                "update sync.service_state set updated_at = updated_at - interval '40 minutes'"
                " where name in ('halt', 'discover')"
            )
        )
    claimed, looks = claim_due_connections(mirror.runtime)
    assert (claimed, looks) == ([], False), "an hour of nothing"
    assert try_claim_tick(mirror.runtime)
    claimed, looks = claim_due_connections(mirror.runtime)
    assert [connection_id for connection_id, _ in claimed] == [1]
    assert looks
    with pytest.raises(LeaseLost), lease.open_write_transaction(database, zombie):
        pass
    with database.open_transaction() as db:
        assert not is_halted(db)
        (worker,) = list_workers(db)
    assert 0 <= worker.seen_seconds_ago < 30
    late = "select count(*) from sync.streams where due_at > clock_timestamp()"
    assert fetch_scalar(database, late) == 0


def test_what_waits_for_a_later_time_goes_on_waiting(mirror: Mirror) -> None:
    database = mirror.database
    before = fetch_scalar(database, "select max(full_due_at) from sync.streams")
    set_back(database)
    with database.open_transaction() as db:
        shift_timers_back(db, HOUR)
    after = fetch_scalar(database, "select max(full_due_at) from sync.streams")
    assert abs(after - before) < timedelta(seconds=1)


def test_a_host_in_time_is_not_named(database: Database) -> None:
    with database.open_transaction() as db:
        seconds = measure_clock_offset(db)
        assert seconds is not None
        assert abs(seconds) < SKEW_SECONDS
        assert load_service_facts(db, tick_seconds=5, queues=()).clocks == ()


def test_what_is_approved_is_due_at_once_after_the_clock_was_set_back(mirror: Mirror) -> None:
    """Events are never earlier than the last one; what is to wait goes by the clock itself."""
    ahead = "update sync.leases set last_event_at = last_event_at + interval '1 hour'"
    with mirror.database.open_transaction() as db:
        db.execute(text(ahead))
        db.execute(text("update sync.streams set phase = 'held' where resource = 'users'"))
    reject_held(mirror.database, 1)
    for table in ("connections", "streams"):
        due = f"select count(*) from sync.{table} where due_at <= clock_timestamp()"
        assert fetch_scalar(mirror.database, due) == 1, table


def look(mirror: Mirror) -> Fleet:
    with mirror.database.open_transaction() as db:
        report_worker(db, "worker@a:1:2:3", list(ALL_QUEUES), ["a:1:2:3"])
    runtime = mirror.runtime
    return load_fleet(mirror.database, runtime.settings, limiter=runtime.nango.limiter)


def test_a_dispatcher_that_ticks_and_sends_nothing_is_a_condition(mirror: Mirror) -> None:
    """The list of a new key was not applied, so that due connections stay due."""
    mirror.sync()
    overdue = "update sync.connections set due_at = clock_timestamp() - interval '10 minutes'"
    older = "update sync.streams set fresh_at = clock_timestamp() - interval '1 day'"
    with mirror.database.open_transaction() as db:
        db.execute(text(overdue))
        db.execute(text(older))
        note_key(db, "another")
    assert claim_due_connections(mirror.runtime)[0] == []
    held_up = look(mirror)
    (found,) = held_up.conditions
    assert (found.code, found.affected) == (Code.DISPATCHER_SILENT, 1)
    assert "list has not been applied since the key changed" in found.sentence
    assert held_up.connections[0].codes == {Code.DISPATCHER_SILENT}, "lateness is folded"
    with mirror.database.open_transaction() as db:
        note_key(db, mirror.runtime.nango.limiter.fingerprint)
    assert len(claim_due_connections(mirror.runtime)[0]) == 1
    after = look(mirror)
    assert after.service.is_sending
    assert after.conditions == ()
