"""Runs migrations under an advisory lock, with timeouts, a transaction for each migration.

A connection given in ``config.attributes["connection"]`` is used as it is; on its own (as in
``alembic revision --autogenerate``) the address comes from ``DATABASE_URL``.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from alembic import context
from sqlalchemy import Connection, Engine, event, text

from migrations.scope import is_ours
from models.tables import metadata
from worker.store.address import normalised
from worker.store.engine import driver, engine_to, is_own_session

ADVISORY_LOCK = 0x7E4A_4D49
LIMITS = {"lock_timeout": "4s", "statement_timeout": "60s"}
WAIT_SECONDS = 0.5
_TRY_LOCK = f"select pg_try_advisory_xact_lock({ADVISORY_LOCK})".encode()


def migrate(connection: Connection) -> None:
    """Bring the database to the wanted revision; a second migrator waits for the first."""
    event.listen(connection.engine, "begin", _set_limits)
    with _alone(connection.engine):
        context.configure(
            connection=connection,
            target_metadata=metadata,
            include_schemas=True,
            include_name=is_ours,
            version_table_schema="sync",
            version_table="schema_version",
            transaction_per_migration=True,
        )
        connection.execute(text("create schema if not exists sync"))
        connection.commit()
        with context.begin_transaction():
            context.run_migrations()


@contextmanager
def _alone(engine: Engine) -> Iterator[None]:
    """Keep other migrators out, however long it takes.

    The lock belongs to a transaction of a second connection: behind a transaction pooler a session
    would not keep it. A migrator that waits asks again and again, because the index that the first
    one builds concurrently waits for every statement that is under way.
    """
    with engine.connect() as guard:
        while not _locked(guard):
            guard.rollback()
            time.sleep(WAIT_SECONDS)
        yield


def _locked(guard: Connection) -> bool:
    """Without parameters: a statement that has some keeps its snapshot until the next one."""
    guard.begin()
    session = driver(guard)
    session.execute("set local idle_in_transaction_session_timeout = 0")
    found = session.execute(_TRY_LOCK).fetchone()
    return found == (True,)


def _set_limits(connection: Connection) -> None:
    """Limit how long a migration may wait and run.

    What runs outside a transaction, such as a concurrent index, has the limits of its session; the
    session of a pooler is shared with other clients and stays as it is.
    """
    execution = connection.get_execution_options()
    scope = "" if execution.get("isolation_level") == "AUTOCOMMIT" else "local"
    if scope or is_own_session(connection):
        for name, value in LIMITS.items():
            driver(connection).execute(f"set {scope} {name} = '{value}'".encode())


def offline() -> None:
    """Print the SQL instead of running it, for review and for the linter."""
    context.configure(
        dialect_name="postgresql",
        target_metadata=metadata,
        version_table_schema="sync",
        version_table="schema_version",
        literal_binds=True,
    )
    with context.begin_transaction():
        for name, value in LIMITS.items():
            context.execute(f"set {name} = '{value}'")
        context.run_migrations()


def run() -> None:
    given = context.config.attributes.get("connection")
    if context.is_offline_mode():
        offline()
    elif given is not None:
        migrate(given)
    else:
        with engine_to(normalised(os.environ["DATABASE_URL"])).connect() as connection:
            migrate(connection)


run()
