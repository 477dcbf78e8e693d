"""Housekeeping is due by what the database remembers: at the first tick, then every hour."""

import threading

from sqlalchemy import text

from tests.support.mirror import fetch_scalar
from worker.app import build_configuration
from worker.core.settings import load_settings
from worker.store.engine import Database
from worker.store.service.maintenance import (
    INTERVAL_SECONDS,
    RESEND_SECONDS,
    RUN_SECONDS,
    claim_maintenance_message,
    finish_maintenance,
    start_maintenance,
)
from worker.sync.runtime import Runtime
from worker.tasks.maintenance import run_maintenance_if_due

BURIED = "select count(*) from directory.group_members"


def bury(database: Database) -> None:
    """A membership that has been over for longer than it is kept."""
    with database.open_transaction() as db:
        db.execute(
            text(
                "insert into directory.group_members (connection_id, group_id, member_id,"
                " first_seen_at, changed_at, deleted_at, deleted_reason)"
                " values (1, gen_random_uuid(), gen_random_uuid(), 'epoch', 'epoch', 'epoch',"
                " 'not_seen')"
            )
        )


def sent(database: Database) -> bool:
    with database.open_transaction() as db:
        return claim_maintenance_message(db)


def started(database: Database) -> bool:
    with database.open_transaction() as db:
        return start_maintenance(db)


def finish(database: Database) -> None:
    with database.open_transaction() as db:
        finish_maintenance(db)


def pass_time(database: Database, seconds: float) -> None:
    """All that is remembered happened so much earlier; later, where the clock was set back."""
    statement = "update sync.service_state set updated_at = updated_at - make_interval(secs => :s)"
    with database.open_transaction() as db:
        db.execute(text(statement), {"s": seconds})


def run(database: Database) -> None:
    assert sent(database)
    assert started(database)
    finish(database)


def test_housekeeping_is_due_at_the_first_tick_and_an_hour_after_it_ended(
    database: Database,
) -> None:
    run(database)
    for _ in range(3):
        pass_time(database, INTERVAL_SECONDS / 3 - 10)
        assert not sent(database)
        assert not started(database)
    pass_time(database, 31)
    run(database)


def test_a_message_that_is_lost_is_sent_again(database: Database) -> None:
    assert sent(database)
    assert not sent(database), "it is on its way"
    pass_time(database, RESEND_SECONDS + 1)
    assert sent(database)


def test_a_message_that_comes_late_or_twice_begins_nothing(database: Database) -> None:
    assert sent(database)
    assert started(database)
    assert not started(database), "somebody is at it"
    pass_time(database, RESEND_SECONDS + 1)
    assert not sent(database), "somebody is at it still"
    finish(database)
    assert not started(database), "it has been done"


def test_a_run_that_was_killed_is_begun_again(database: Database) -> None:
    assert sent(database)
    assert started(database)
    pass_time(database, RUN_SECONDS + 1)
    assert sent(database)
    assert started(database)


def test_a_run_that_was_killed_after_an_earlier_one_ended_is_begun_again(
    database: Database,
) -> None:
    run(database)
    pass_time(database, INTERVAL_SECONDS + 1)
    assert started(database)
    assert not started(database)
    pass_time(database, RUN_SECONDS + 1)
    assert started(database)


def test_a_clock_that_is_set_back_delays_nothing(database: Database) -> None:
    run(database)
    pass_time(database, -7200)
    run(database)


def test_a_run_is_over_when_celery_ends_it_at_the_latest() -> None:
    assert build_configuration(load_settings())["task_time_limit"] < RUN_SECONDS


def test_housekeeping_that_is_not_due_is_not_done(runtime: Runtime) -> None:
    bury(runtime.database)
    assert run_maintenance_if_due(runtime)
    assert fetch_scalar(runtime.database, BURIED) == 0
    bury(runtime.database)
    assert not run_maintenance_if_due(runtime), "a message that came twice"
    assert fetch_scalar(runtime.database, BURIED) == 1
    pass_time(runtime.database, INTERVAL_SECONDS + 1)
    assert run_maintenance_if_due(runtime)
    assert fetch_scalar(runtime.database, BURIED) == 0


def test_of_many_at_a_time_one_begins(database: Database) -> None:
    databases = [Database(database.url.render_as_string(hide_password=False)) for _ in range(6)]
    together = threading.Barrier(len(databases))
    begun: list[bool] = []

    def begin(mine: Database) -> None:
        with mine.open_transaction() as db:
            db.execute(text("select 1"))
            together.wait()
            begun.append(start_maintenance(db))

    for _ in range(3):
        threads = [threading.Thread(target=begin, args=(one,)) for one in databases]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert begun.count(True) == 1
        begun.clear()
        finish(database)
        pass_time(database, INTERVAL_SECONDS + 1)
    for one in databases:
        one.close()
