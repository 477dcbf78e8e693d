"""Erased objects, remembered by a keyed digest."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "erasures",
        sa.Column("connection_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column(
            "digest", sa.LargeBinary(), nullable=False, comment="keyed digest of the object's id"
        ),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "last_seq",
            sa.BigInteger(),
            nullable=True,
            comment="the closing event; no later one tells of it; null where none ever did",
        ),
        sa.Column(
            "pending",
            postgresql.JSONB(),
            nullable=True,
            comment="who it is and how far the events are scrubbed; null once all of them are",
        ),
        sa.Column(
            "scrubbed_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="null while scrubbing is under way",
        ),
        sa.ForeignKeyConstraint(
            ["connection_id"],
            ["sync.connections.id"],
            name=op.f("fk_erasures_connection_id_connections"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("connection_id", "digest", name=op.f("pk_erasures")),
        schema="sync",
        comment="Erased objects; a sync passes over them until the erasure is lifted",
        if_not_exists=True,
    )
    op.create_index(
        "ix_erasures_pending",
        "erasures",
        ["created_at"],
        unique=False,
        schema="sync",
        postgresql_where=sa.text("scrubbed_at is null"),
        if_not_exists=True,
    )


def downgrade() -> None:
    op.drop_table("erasures", schema="sync", if_exists=True)
