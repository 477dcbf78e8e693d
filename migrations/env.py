"""Runs migrations, a transaction for each.

A connection given in ``config.attributes["connection"]`` is used as it is; on its own (as in
``alembic revision --autogenerate``) the address comes from ``DATABASE_URL``.
"""

import os
from collections.abc import Iterable

import sqlalchemy as sa
from alembic import context
from alembic.operations import ops
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from migrations.scope import is_managed
from models.tables import metadata
from worker.store.database_url import parse_database_url
from worker.store.engine import create_mirror_engine
from worker.store.migration_lock import MigrationLimits, lock_migration


def make_repeatable(
    _context: MigrationContext, _revision: object, scripts: list[ops.MigrationScript]
) -> None:
    """Let generated migrations pass over what exists, so that an interrupted one can run again."""
    for script in scripts:
        for part in (*script.upgrade_ops_list, *script.downgrade_ops_list):
            _pass_over_existing(part.ops)


def _pass_over_existing(operations: Iterable[ops.MigrateOperation]) -> None:
    for operation in operations:
        match operation:
            case ops.ModifyTableOps():
                _pass_over_existing(operation.ops)
            case ops.CreateTableOp() | ops.CreateIndexOp() | ops.AddColumnOp():
                operation.if_not_exists = True
            case ops.DropTableOp() | ops.DropIndexOp() | ops.DropColumnOp():
                operation.if_exists = True


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
        process_revision_directives=make_repeatable,
        on_version_apply=context.config.attributes.get("on_version_apply"),
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
