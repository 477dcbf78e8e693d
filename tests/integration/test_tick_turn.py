"""A tick is run once an interval, by Postgres's clock, however many messages come and whenever."""

import threading
from datetime import timedelta

import pytest
from sqlalchemy import text

from tests.conftest import Mirror
from tests.support.leases import take
from tests.support.mirror import scalar
from worker.core.errors import Fenced
from worker.store import lease
from worker.store.engine import Database
from worker.store.host_clocks import OFF_SECONDS, clock_difference, hosts_off
from worker.store.service import is_halted, note_halt, note_tick, should_discover
from worker.store.tick_turn import follow_set_back, take_turn
from worker.store.workers import list_workers, report_worker
from worker.sync.approve import reject_held
from worker.sync.run import Kit
from worker.tasks.schedule import claim, takes_turn

HOUR = 3600


def turn(database: Database, seconds: float) -> float | None:
    with database.begin() as connection:
        return take_turn(connection, seconds)


def age_turn(database: Database, seconds: float) -> None:
    """Have the last turn taken so many seconds ago; negative: later than now."""
    with database.begin() as connection:
        connection.execute(
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


def test_of_ticks_that_come_together_one_is_run(kit: Kit) -> None:
    taken: list[bool] = []
    together = threading.Barrier(8)

    def one() -> None:
        together.wait()
        taken.append(takes_turn(kit))

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
    with database.begin() as connection:
        for table, column in (
            ("sync.connections", "due_at"),
            ("sync.streams", "due_at"),
            ("sync.streams", "full_due_at"),
            ("sync.leases", "expires_at"),
            ("sync.workers", "seen_at"),
            ("sync.service_state", "updated_at"),
        ):
            connection.execute(text(_AHEAD.format(table=table, column=column)))


def test_after_postgres_clock_was_set_back_nothing_waits_an_hour(mirror: Mirror) -> None:
    database = mirror.database
    zombie = take(database, 1, seconds=60)
    with database.begin() as connection:
        connection.execute(text("update sync.connections set due_at = clock_timestamp()"))
        connection.execute(text("update sync.streams set due_at = clock_timestamp()"))
        note_tick(connection)
        note_halt(connection, "a wrong key")
        should_discover(connection, 60)
        report_worker(connection, "worker@a:1:2:3", ["manual"], ["a:1:2:3"])
    takes_turn(mirror.kit)
    set_back(database)
    with database.begin() as connection:
        connection.execute(
            text(
                "update sync.service_state set updated_at = updated_at - interval '40 minutes'"
                " where name in ('halt', 'discover')"
            )
        )
    claimed, looks = claim(mirror.kit)
    assert (claimed, looks) == ([], False), "an hour of nothing"
    assert takes_turn(mirror.kit)
    claimed, looks = claim(mirror.kit)
    assert [connection_id for connection_id, _ in claimed] == [1]
    assert looks
    with pytest.raises(Fenced), lease.writing(database, zombie):
        pass
    with database.begin() as connection:
        assert not is_halted(connection)
        (worker,) = list_workers(connection)
    assert 0 <= worker.seen_seconds_ago < 30
    late = "select count(*) from sync.streams where due_at > clock_timestamp()"
    assert scalar(database, late) == 0


def test_what_waits_for_a_later_time_goes_on_waiting(mirror: Mirror) -> None:
    database = mirror.database
    before = scalar(database, "select max(full_due_at) from sync.streams")
    set_back(database)
    with database.begin() as connection:
        follow_set_back(connection, HOUR)
    after = scalar(database, "select max(full_due_at) from sync.streams")
    assert abs(after - before) < timedelta(seconds=1)


def test_a_host_in_time_is_not_named(database: Database) -> None:
    with database.begin() as connection:
        seconds = clock_difference(connection)
        assert seconds is not None
        assert abs(seconds) < OFF_SECONDS
        assert hosts_off(connection) == []


def test_what_is_approved_is_due_at_once_after_the_clock_was_set_back(mirror: Mirror) -> None:
    """Events are never earlier than the last one; what is to wait goes by the clock itself."""
    ahead = "update sync.leases set last_event_at = last_event_at + interval '1 hour'"
    with mirror.database.begin() as connection:
        connection.execute(text(ahead))
        connection.execute(text("update sync.streams set phase = 'held' where resource = 'users'"))
    reject_held(mirror.database, 1)
    for table in ("connections", "streams"):
        due = f"select count(*) from sync.{table} where due_at <= clock_timestamp()"
        assert scalar(mirror.database, due) == 1, table
