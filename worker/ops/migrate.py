"""Bringing the database to the schema of this release, or to another one."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, Index, PrimaryKeyConstraint, UniqueConstraint
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from models.tables import metadata
from worker.core.errors import Halt, Later
from worker.events.partitions import ensure_partitions
from worker.ops.revisions import explain_wait, is_upgrade, target
from worker.ops.schema import FOLDER, known, present_in
from worker.store.engine import Database, driver, engine_to, failure, sql_state
from worker.store.indexes import rebuild_invalid
from worker.store.migrating import Limits, WaitObserver, migrating

GAVE_UP = ("40P01", "55P03", "57014")
"""SQL states of a statement that waited too long, or that was canceled."""


def migrate(
    database: Database, revision: str = "head", limits: Limits | None = None
) -> tuple[str | None, str | None]:
    """Migrate, up or down; the revisions before and after. Raises Away, Halt, Later, Unknown.

    Runs under an advisory lock with timeouts, so that two at a time and a busy database are safe.
    Where it is interrupted, it goes on from there when it is run again.
    """
    # A pooler may have few sessions, and migrating takes two.
    database.close()
    engine = engine_to(database.url)
    try:
        with migrating(engine, limits) as observer, _explaining(engine, observer):
            return _migrate(engine, revision)
    except (SQLAlchemyError, psycopg.Error) as fault:
        origin = _origin(fault)
        if origin is None:
            raise
        raise failure(origin, database.place) from None
    finally:
        engine.dispose()


def _migrate(engine: Engine, asked: str) -> tuple[str | None, str | None]:
    before = _look(engine)
    wanted = target(asked, before, known())
    up = is_upgrade(before, wanted)
    if up and before is not None:
        _rebuild_indexes(engine)
    if wanted != before:
        with engine.connect() as connection:
            config = _config()
            config.attributes["connection"] = connection
            (command.upgrade if up else command.downgrade)(config, wanted or "base")
    if wanted is not None:
        with engine.begin() as connection:
            ensure_partitions(connection)
    return before, wanted


def _config() -> Config:
    config = Config(str(FOLDER / "alembic.ini"))
    config.set_main_option("script_location", str(FOLDER))
    return config


def _look(engine: Engine) -> str | None:
    """The revision that the database has. Raises Halt on a server that is too old."""
    with engine.connect() as connection:
        version = driver(connection).info.server_version
        if version < 150_000:
            raise Halt(f"Postgres {version // 10_000} is too old; Tenant Mirror needs 15 or newer")
        return present_in(connection)


def _rebuild_indexes(engine: Engine) -> None:
    """Build indexes that an interrupted migration left invalid, of this release or an earlier."""
    names = {
        str(item.name)
        for table in metadata.tables.values()
        for item in (*table.indexes, *table.constraints)
        if isinstance(item, Index | PrimaryKeyConstraint | UniqueConstraint)
    }
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        rebuild_invalid(connection, names)


@contextmanager
def _explaining(engine: Engine, observer: WaitObserver) -> Iterator[None]:
    """A statement that gave up for want of a lock or a snapshot is explained. Raises Later."""
    try:
        yield
    except (SQLAlchemyError, psycopg.Error) as fault:
        origin, holders = _origin(fault), observer.holders
        if origin is None or sql_state(origin) not in GAVE_UP or not holders:
            raise
        raise Later(explain_wait(holders, _look(engine)), after=60) from None


def _origin(fault: Exception) -> Exception | None:
    """The first database error: once the connection is lost, leaving a block fails as well."""
    found: BaseException | None = fault
    while found is not None and not isinstance(found, DBAPIError | psycopg.Error):
        found = found.__context__
    return found
