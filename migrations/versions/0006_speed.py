"""Rows remember the bytes they were made of; an index tells whether anything is deleted."""

import sqlalchemy as sa
from alembic import op

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
        )
    with op.get_context().autocommit_block():
        for table in ("users", "groups"):
            op.create_index(
                f"ix_{table}_deleted",
                table,
                ["connection_id"],
                unique=False,
                schema="directory",
                postgresql_where=sa.text("deleted_at is not null"),
                postgresql_concurrently=True,
                if_not_exists=True,
            )


def downgrade() -> None:
    for table in ("users", "groups"):
        op.drop_index(f"ix_{table}_deleted", table, schema="directory")
    for table in _TABLES:
        op.drop_column(table, "source_hash", schema="directory")
