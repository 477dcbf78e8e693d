"""Which connection each login of a customer may see.

The policies that read the table are made after the migration: see ``migrations/walls``.
"""

import sqlalchemy as sa
from alembic import context, op

from migrations.walls.install import drop_walls

revision = "0060"
down_revision = "0059"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "reader_connections",
        sa.Column(
            "role_name", sa.Text(), nullable=False, comment="role of Postgres, as it logs in"
        ),
        sa.Column(
            "connection_id",
            sa.BigInteger(),
            nullable=False,
            comment="the connection whose rows it may see",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when an operator let it",
        ),
        sa.ForeignKeyConstraint(
            ["connection_id"],
            ["sync.connections.id"],
            name=op.f("fk_reader_connections_connection_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("role_name", name=op.f("pk_reader_connections")),
        schema="sync",
        comment="Which connection each login of a customer may see; row-level security reads it",
        if_not_exists=True,
    )
    op.create_index(
        op.f("ix_reader_connections_connection_id"),
        "reader_connections",
        ["connection_id"],
        schema="sync",
        if_not_exists=True,
    )


def downgrade() -> None:
    if not context.is_offline_mode():
        drop_walls(op.get_bind())
    op.drop_table("reader_connections", schema="sync", if_exists=True)
