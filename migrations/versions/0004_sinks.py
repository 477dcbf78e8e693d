"""Sinks that change events are delivered to, and their positions."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sinks",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default="active", nullable=False),
        sa.Column(
            "status_reason", sa.Text(), nullable=True, comment="a plain sentence for the operator"
        ),
        sa.Column(
            "settings", postgresql.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column(
            "secrets",
            postgresql.JSONB(),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
            comment="keys and passwords; shown nowhere",
        ),
        sa.Column(
            "resources", postgresql.ARRAY(sa.Text()), nullable=True, comment="only these; null: all"
        ),
        sa.Column(
            "changes", postgresql.ARRAY(sa.Text()), nullable=True, comment="only these; null: all"
        ),
        sa.Column(
            "connections",
            postgresql.ARRAY(sa.BigInteger()),
            nullable=True,
            comment="only these; null: all",
        ),
        sa.Column("initial", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("start", sa.Text(), server_default="now", nullable=False),
        sa.Column(
            "token", sa.BigInteger(), server_default="0", nullable=False, comment="the fence"
        ),
        sa.Column("holder", sa.Text(), nullable=True, comment="relay that serves it, for people"),
        sa.Column(
            "expires_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="null while nobody serves it",
        ),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column(
            "retry_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when a failed delivery is tried again",
        ),
        sa.Column("last_delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint("kind in ('redis-stream', 'webhook')", name=op.f("ck_sinks_kind")),
        sa.CheckConstraint(
            "status in ('active', 'paused', 'disabled')", name=op.f("ck_sinks_status")
        ),
        sa.CheckConstraint("start in ('now', 'oldest', 'snapshot')", name=op.f("ck_sinks_start")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sinks")),
        sa.UniqueConstraint("name", name=op.f("uq_sinks_name")),
        schema="events",
        comment="Where change events are delivered to",
        if_not_exists=True,
    )
    op.create_table(
        "positions",
        sa.Column("sink_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("connection_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column(
            "seq", sa.BigInteger(), nullable=False, comment="everything up to it is delivered"
        ),
        sa.Column(
            "occurred_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="of that event: none is earlier",
        ),
        sa.Column(
            "snapshot",
            postgresql.JSONB(),
            nullable=True,
            comment="where a snapshot under way goes on; seq is that of its cut",
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["sink_id"],
            ["events.sinks.id"],
            name=op.f("fk_positions_sink_id_sinks"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("sink_id", "connection_id", name=op.f("pk_positions")),
        schema="events",
        comment="How far each sink has come with each connection",
        if_not_exists=True,
    )


def downgrade() -> None:
    op.drop_table("positions", schema="events", if_exists=True)
    op.drop_table("sinks", schema="events", if_exists=True)
