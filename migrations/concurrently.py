"""Indexes that a revision builds without making readers or writers wait.

One in a revision. It ends the revision's transaction: what the revision did before is committed,
and must be written so that it can be run again (``if_not_exists``) where the build is interrupted.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from worker.store.indexes import drop_invalid_index


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
