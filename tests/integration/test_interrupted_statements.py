"""What ends a statement from outside, such as Ctrl-C or a time limit, is what the caller sees."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import text

from tests.support.databases import DatabaseFactory
from worker.store.engine import Database, create_mirror_engine, get_driver_connection


class TimeIsUpError(Exception):
    """As of a time limit that Celery raises in the middle of anything."""


@pytest.fixture(scope="module")
def database(cluster: DatabaseFactory) -> Iterator[Database]:
    url = cluster.create_empty()
    opened = Database(url)
    yield opened
    opened.close()
    cluster.drop(url)


@contextmanager
def raise_soon(error: type[BaseException]) -> Iterator[None]:
    """Raise an error from a signal handler, a moment later."""

    def handle(*_: object) -> None:
        raise error

    before = signal.signal(signal.SIGUSR1, handle)
    timer = threading.Timer(0.25, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        signal.signal(signal.SIGUSR1, before)


def sleep_in_postgres(database: Database, way: str) -> None:
    with database.open_transaction() as db:
        driver = get_driver_connection(db)
        if way == "sqlalchemy":
            db.execute(text("select pg_sleep(20)"))
        elif way == "driver":
            driver.execute("select pg_sleep(20)")
        else:
            with driver.cursor().copy("copy (select pg_sleep(20)) to stdout") as copy:
                list(copy)


@pytest.mark.parametrize("error", [KeyboardInterrupt, TimeIsUpError])
@pytest.mark.parametrize("way", ["sqlalchemy", "driver", "copy"])
def test_the_interruption_is_raised_and_the_next_transaction_works(
    database: Database, error: type[BaseException], way: str
) -> None:
    with pytest.raises(error) as caught, raise_soon(error):
        sleep_in_postgres(database, way)
    assert type(caught.value) is error
    with database.open_transaction() as db:
        assert db.execute(text("select 1")).scalar_one() == 1


def test_a_migration_that_is_interrupted_says_so_as_well(database: Database) -> None:
    """Migrations have an engine of their own."""
    engine = create_mirror_engine(database.url)
    with pytest.raises(TimeIsUpError), raise_soon(TimeIsUpError), engine.begin() as db:
        get_driver_connection(db).execute("select pg_sleep(20)")
    engine.dispose()
