"""Indexes that a revision builds without making readers or writers wait.

One in a revision, of a table or of all partitions of one. It ends the revision's transaction: what
the revision did before is committed, and must be written so that it can be run again
(``if_not_exists``) where the build is interrupted.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from worker.store.indexes import drop_invalid_index

_PARTITIONS = """
    select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
     where i.inhparent = to_regclass('{table}') order by c.relname
"""


def build_index(
    name: str,
    table: str,
    columns: Sequence[str],
    *,
    schema: str,
    where: str | None = None,
    unique: bool = False,
) -> None:
    """Build an index, once what an interrupted build of it left is gone."""
    context = op.get_context()
    with context.autocommit_block():
        if not context.as_sql:
            drop_invalid_index(op.get_bind(), schema, name)
        op.create_index(
            name,
            table,
            list(columns),
            unique=unique,
            schema=schema,
            postgresql_where=None if where is None else sa.text(where),
            postgresql_concurrently=True,
            if_not_exists=True,
        )


def build_partitioned_index(
    name: str, table: str, columns: Sequence[str], *, schema: str, where: str
) -> None:
    """Build an index of a partitioned table: of each partition concurrently, then of the whole.

    The whole index comes first, empty and invalid, so that a partition that is made meanwhile has
    its own.
    """
    context, db = op.get_context(), op.get_bind()
    of = f"({', '.join(columns)}) where {where}"
    op.execute(
        "-- squawk-ignore require-concurrent-index-creation\n"
        f"create index if not exists {name} on only {schema}.{table} {of}"
    )
    if context.as_sql:
        return
    partitions = db.execute(sa.text(_PARTITIONS.format(table=f"{schema}.{table}"))).scalars().all()
    # As Postgres itself calls those of later partitions.
    parts = {part: f"{part}_{'_'.join(columns)}_idx" for part in partitions}
    with context.autocommit_block():
        for part, index in parts.items():
            drop_invalid_index(op.get_bind(), schema, index)
            op.execute(f"create index concurrently if not exists {index} on {schema}.{part} {of}")
    for index in parts.values():
        op.execute(f"alter index {schema}.{name} attach partition {schema}.{index}")
