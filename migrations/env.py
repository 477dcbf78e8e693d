"""Runs migrations, a transaction for each.

A connection given in ``config.attributes["connection"]`` is used as it is; on its own (as in
``alembic revision --autogenerate``) the address comes from ``DATABASE_URL``.
"""

import os

import sqlalchemy as sa
from alembic import context
from sqlalchemy import text

from migrations.scope import is_managed
from models.tables import metadata
from worker.store.database_url import parse_database_url
from worker.store.engine import create_mirror_engine
from worker.store.migration_lock import MigrationLimits, lock_migration


def run_migrations_online(db: sa.Connection) -> None:
    """Bring the database to the wanted revision."""
    context.configure(
        connection=db,
        target_metadata=metadata,
        include_schemas=True,
        include_name=is_managed,
        version_table_schema="sync",
        version_table="schema_version",
        transaction_per_migration=True,
    )
    db.execute(text("create schema if not exists sync"))
    db.commit()
    with context.begin_transaction():
        context.run_migrations()


def run_migrations_offline() -> None:
    """Print the SQL instead of running it, for review and for the linter."""
    context.configure(
        dialect_name="postgresql",
        target_metadata=metadata,
        version_table_schema="sync",
        version_table="schema_version",
        literal_binds=True,
    )
    with context.begin_transaction():
        for name, seconds in MigrationLimits().transaction_timeouts.items():
            context.execute(f"set {name} = '{seconds}s'")
        context.run_migrations()


def run_migrations() -> None:
    given = context.config.attributes.get("connection")
    if context.is_offline_mode():
        run_migrations_offline()
    elif given is not None:
        run_migrations_online(given)
    else:
        engine = create_mirror_engine(parse_database_url(os.environ["DATABASE_URL"]))
        with lock_migration(engine), engine.connect() as db:
            run_migrations_online(db)


run_migrations()
