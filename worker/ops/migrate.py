"""Bringing the database to the schema of this release."""

import psycopg
from alembic import command
from alembic.config import Config
from sqlalchemy.exc import DBAPIError

from worker.core.errors import Halt
from worker.events.partitions import ensure_partitions
from worker.ops.schema import FOLDER, present
from worker.store.engine import Database, engine_to, failure


def _config() -> Config:
    config = Config(str(FOLDER / "alembic.ini"))
    config.set_main_option("script_location", str(FOLDER))
    return config


def migrate(database: Database, revision: str = "head") -> tuple[str | None, str | None]:
    """Migrate; the revisions before and after. Raises Away, Halt.

    Runs under an advisory lock with timeouts, so that two at a time and a busy database are safe.
    """
    before = present(database)
    # A pooler may have few sessions, and migrating takes two.
    database.close()
    engine = engine_to(database.url)
    try:
        with engine.connect() as connection:
            _refuse_old_server(connection.connection.driver_connection.info.server_version)  # type: ignore[union-attr]
            config = _config()
            config.attributes["connection"] = connection
            down = before is not None and revision != "head"
            (command.downgrade if down else command.upgrade)(config, revision)
    except (DBAPIError, psycopg.Error) as fault:
        raise failure(fault, database.place) from None
    finally:
        engine.dispose()
    after = present(database)
    if after is not None:
        with database.begin() as connection:
            ensure_partitions(connection)
    return before, after


def _refuse_old_server(version: int) -> None:
    if version < 150_000:
        raise Halt(f"Postgres {version // 10_000} is too old; Tenant Mirror needs 15 or newer")
