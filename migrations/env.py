"""Runs migrations under an advisory lock, with timeouts, a transaction for each migration.

A connection given in ``config.attributes["connection"]`` is used as it is; on its own (as in
``alembic revision --autogenerate``) the address comes from ``DATABASE_URL``.
"""

import os

from alembic import context
from sqlalchemy import Connection, text

from migrations.scope import is_ours
from models.tables import metadata
from worker.store.engine import engine_to, normalised

ADVISORY_LOCK = 0x7E4A_4D49
LOCK_TIMEOUT = "4s"
STATEMENT_TIMEOUT = "60s"


def migrate(connection: Connection) -> None:
    """Bring the database to the wanted revision; a second migrator waits for the first."""
    # However long the first migrator takes: the session's own limits would end the wait.
    connection.execute(text("set lock_timeout = 0; set statement_timeout = 0"))
    connection.execute(text("select pg_advisory_lock(:key)"), {"key": ADVISORY_LOCK})
    connection.execute(text(f"set lock_timeout = '{LOCK_TIMEOUT}'"))
    connection.execute(text(f"set statement_timeout = '{STATEMENT_TIMEOUT}'"))
    connection.commit()
    try:
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
    finally:
        connection.rollback()
        connection.execute(text("select pg_advisory_unlock(:key)"), {"key": ADVISORY_LOCK})
        connection.commit()


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
        context.execute(f"set lock_timeout = '{LOCK_TIMEOUT}'")
        context.execute(f"set statement_timeout = '{STATEMENT_TIMEOUT}'")
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
