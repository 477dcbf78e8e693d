"""Bringing the database to the schema of this release."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError

import migrations
from worker.core.errors import Halt
from worker.events.partitions import ensure_partitions
from worker.store.engine import Database, translated


def _config() -> Config:
    folder = Path(next(iter(migrations.__path__)))
    config = Config(str(folder / "alembic.ini"))
    config.set_main_option("script_location", str(folder))
    return config


def newest() -> str:
    """The revision that this release works with."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None
    return head


def present(database: Database) -> str | None:
    """The revision that the database has; None where it has none."""
    with database.begin() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table_schema": "sync", "version_table": "schema_version"}
        )
        return context.get_current_revision()


def migrate(database: Database, revision: str = "head") -> tuple[str | None, str | None]:
    """Migrate; the revisions before and after. Raises Away, Halt.

    Runs under an advisory lock with timeouts, so that two at a time and a busy database are safe.
    """
    before = present(database)
    engine = create_engine(database.url, connect_args={"connect_timeout": 5})
    try:
        with engine.connect() as connection:
            _refuse_old_server(connection.connection.driver_connection.info.server_version)  # type: ignore[union-attr]
            config = _config()
            config.attributes["connection"] = connection
            down = before is not None and revision != "head"
            (command.downgrade if down else command.upgrade)(config, revision)
    except DBAPIError as fault:
        raise translated(fault, database.place) from fault
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


def check(database: Database) -> None:
    """Refuse to work on another schema than ours. Raises Halt."""
    found, wanted = present(database), newest()
    if found != wanted:
        raise Halt(
            f"the database at {database.place} is at schema {found or 'none'}, this release "
            f"needs {wanted}; run 'tenant-mirror migrate'"
        )
