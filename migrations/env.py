"""Runs migrations, a transaction for each.

A connection given in ``config.attributes["connection"]`` is used as it is; on its own (as in
``alembic revision --autogenerate``) the address comes from ``DATABASE_URL``.
"""

import os

from alembic import context
from sqlalchemy import Connection, text

from migrations.scope import is_ours
from models.tables import metadata
from worker.store.address import normalised
from worker.store.engine import engine_to
from worker.store.migrating import Limits, migrating


def migrate(connection: Connection) -> None:
    """Bring the database to the wanted revision."""
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
        for name, seconds in Limits().in_transactions.items():
            context.execute(f"set {name} = '{seconds}s'")
        context.run_migrations()


def run() -> None:
    given = context.config.attributes.get("connection")
    if context.is_offline_mode():
        offline()
    elif given is not None:
        migrate(given)
    else:
        engine = engine_to(normalised(os.environ["DATABASE_URL"]))
        with migrating(engine), engine.connect() as connection:
            migrate(connection)


run()
