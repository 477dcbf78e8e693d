"""Parts of a resource that Graph does not answer for are noted and asked for again."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "unresolved",
        sa.Column("connection_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("resource", sa.Text(), nullable=False, comment="the resource of the object"),
        sa.Column("kind", sa.Text(), nullable=False, comment="what of the object is not known"),
        sa.Column("key", sa.Text(), nullable=False, comment="the object's id"),
        sa.Column(
            "reason", sa.Text(), nullable=False, comment="what Graph answered; no personal data"
        ),
        sa.Column("attempts", sa.Integer(), server_default="1", nullable=False),
        sa.Column(
            "first_seen_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "last_seen_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "retry_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="when it is asked again",
        ),
        sa.ForeignKeyConstraint(
            ["connection_id"],
            ["sync.connections.id"],
            name=op.f("fk_unresolved_connection_id_connections"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "connection_id", "resource", "kind", "key", name=op.f("pk_unresolved")
        ),
        schema="sync",
        comment="Parts that Graph does not answer for: they stay as they are until it does",
        if_not_exists=True,
    )


def downgrade() -> None:
    op.drop_table("unresolved", schema="sync", if_exists=True)
