"""Rows remember the bytes they were made of; an index tells whether anything is deleted."""

import sqlalchemy as sa
from alembic import op

from migrations.concurrently import build_index

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_TABLES = ("users", "groups", "group_members", "sites", "role_definitions", "role_assignments")


def upgrade() -> None:
    for table in _TABLES:
        op.add_column(
            table,
            sa.Column(
                "source_hash",
                sa.LargeBinary(),
                nullable=True,
                comment="versioned digest of the bytes that the row was made of, where they told all",
            ),
            schema="directory",
            if_not_exists=True,
        )
    # That of groups is built by 0018, as a revision builds one at most.
    build_index(
        "ix_users_deleted",
        "users",
        ["connection_id"],
        schema="directory",
        where="deleted_at is not null",
    )


def downgrade() -> None:
    for table in ("users", "groups"):
        op.drop_index(f"ix_{table}_deleted", table, schema="directory", if_exists=True)
    for table in _TABLES:
        op.drop_column(table, "source_hash", schema="directory", if_exists=True)
