"""Operators: their tokens, actions and pauses, the audit of it all, and cumulative counters."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None

_REFUSE = """
    create or replace function sync.refuse_change() returns trigger language plpgsql as $$
    begin
        raise exception 'rows of %.% are only ever added', tg_table_schema, tg_table_name
            using errcode = 'restrict_violation';
    end $$
"""
_APPEND_ONLY = """
    create or replace trigger append_only before update or delete or truncate on sync.audit
       for each statement execute function sync.refuse_change()
"""


def upgrade() -> None:
    op.create_table(
        "api_tokens",
        sa.Column(
            "id", sa.Text(), nullable=False, comment="public part of the token, which looks it up"
        ),
        sa.Column("name", sa.Text(), nullable=False, comment="who or what presents it"),
        sa.Column("digest", sa.LargeBinary(), nullable=False, comment="SHA-256 of the whole token"),
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column(
            "expires_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="null: it does not expire",
        ),
        sa.Column(
            "last_used_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="to the minute; null: never used",
        ),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "scopes <@ array['read', 'operate', 'metrics']", name=op.f("ck_api_tokens_scopes")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_tokens")),
        sa.UniqueConstraint("name", name=op.f("uq_api_tokens_name")),
        schema="sync",
        comment="Tokens of the HTTP API; only their digests are stored",
        if_not_exists=True,
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column(
            "occurred_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "actor", sa.Text(), nullable=False, comment="name of the token, or the user of the host"
        ),
        sa.Column("via", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column(
            "connection_id",
            sa.BigInteger(),
            nullable=True,
            comment="null: not about one connection; no foreign key, as entries outlive connections",
        ),
        sa.Column(
            "subject",
            sa.Text(),
            nullable=True,
            comment="what it was done to: a connection's label, a sink, a token",
        ),
        sa.Column(
            "parameters",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
            comment="as asked for; counts and digests, never objects of a directory",
        ),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column(
            "detail", sa.Text(), nullable=True, comment="what became of it, or why it was refused"
        ),
        sa.Column("operation_id", sa.BigInteger(), nullable=True),
        sa.Column(
            "request_id",
            sa.Text(),
            nullable=True,
            comment="of the HTTP request, which the log also shows",
        ),
        sa.CheckConstraint(
            "outcome in ('accepted', 'done', 'refused', 'failed')", name=op.f("ck_audit_outcome")
        ),
        sa.CheckConstraint("via in ('cli', 'api', 'page', 'service')", name=op.f("ck_audit_via")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
        schema="sync",
        comment="Who did what, when, through which face; rows are only ever added",
        if_not_exists=True,
    )
    op.create_index(
        op.f("ix_audit_connection_id_id"),
        "audit",
        ["connection_id", "id"],
        unique=False,
        schema="sync",
        if_not_exists=True,
    )
    op.execute(_REFUSE)
    op.execute(_APPEND_ONLY)
    op.create_table(
        "counters",
        sa.Column(
            "name", sa.Text(), nullable=False, comment="name of the metric, without its prefix"
        ),
        sa.Column(
            "labels",
            postgresql.ARRAY(sa.Text()),
            nullable=False,
            comment="values of its labels, in the order in which the metric declares them",
        ),
        sa.Column(
            "slot",
            sa.BigInteger(),
            nullable=False,
            comment="one of a few rows of a series, so that processes seldom wait for each other",
        ),
        sa.Column(
            "value",
            sa.Double(),
            server_default=sa.text("0"),
            nullable=False,
            comment="only ever grows",
        ),
        sa.PrimaryKeyConstraint("name", "labels", "slot", name=op.f("pk_counters")),
        schema="sync",
        comment="Cumulative counters of the service; a series is the sum of its slots",
        if_not_exists=True,
    )
    op.create_table(
        "operations",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="queued", nullable=False),
        sa.Column(
            "parameters",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
            comment="of the action, and the filter that chose the connections",
        ),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("via", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column(
            "idempotency_key",
            sa.Text(),
            nullable=True,
            comment="of the client; null once a day has passed",
        ),
        sa.Column(
            "request_digest",
            sa.Text(),
            nullable=True,
            comment="of the request that came with this key",
        ),
        sa.Column(
            "targets", sa.Integer(), nullable=False, comment="connections that it is applied to"
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("holder", sa.Text(), nullable=True, comment="the process that carries it out"),
        sa.Column(
            "held_until",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when another process may go on with it",
        ),
        sa.Column("error", sa.Text(), nullable=True, comment="why it failed, in plain words"),
        sa.CheckConstraint(
            "action in ('resync', 'pause', 'resume', 'approve', 'reject')",
            name=op.f("ck_operations_action"),
        ),
        sa.CheckConstraint(
            "state in ('queued', 'running', 'succeeded', 'partial', 'failed')",
            name=op.f("ck_operations_state"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_operations")),
        schema="sync",
        comment="Actions that operators asked for; workers carry them out",
        if_not_exists=True,
    )
    op.create_index(
        "ix_operations_unfinished",
        "operations",
        ["id"],
        unique=False,
        schema="sync",
        postgresql_where=sa.text("state in ('queued', 'running')"),
        if_not_exists=True,
    )
    op.create_index(
        "uq_operations_idempotency_key",
        "operations",
        ["actor", "idempotency_key"],
        unique=True,
        schema="sync",
        postgresql_where=sa.text("idempotency_key is not null"),
        if_not_exists=True,
    )
    op.create_table(
        "operation_targets",
        sa.Column("operation_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("connection_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("state", sa.Text(), server_default="queued", nullable=False),
        sa.Column(
            "detail",
            sa.Text(),
            nullable=True,
            comment="what was done, or why it failed, in plain words",
        ),
        sa.Column(
            "result",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="counts, for programs",
        ),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state in ('queued', 'done', 'failed')", name=op.f("ck_operation_targets_state")
        ),
        sa.ForeignKeyConstraint(
            ["connection_id"],
            ["sync.connections.id"],
            name=op.f("fk_operation_targets_connection_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["operation_id"],
            ["sync.operations.id"],
            name=op.f("fk_operation_targets_operation_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("operation_id", "connection_id", name=op.f("pk_operation_targets")),
        schema="sync",
        comment="The connections of an operation, and what became of each",
        if_not_exists=True,
    )
    op.create_index(
        "ix_operation_targets_connection_id",
        "operation_targets",
        ["connection_id"],
        unique=False,
        schema="sync",
        if_not_exists=True,
    )
    op.create_index(
        "ix_operation_targets_queued",
        "operation_targets",
        ["operation_id", "connection_id"],
        unique=False,
        schema="sync",
        postgresql_where=sa.text("state = 'queued'"),
        if_not_exists=True,
    )
    op.add_column(
        "connections",
        sa.Column(
            "operator_paused_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="an operator paused its syncs",
        ),
        schema="sync",
        if_not_exists=True,
    )
    op.add_column(
        "connections",
        sa.Column("operator_paused_by", sa.Text(), nullable=True),
        schema="sync",
        if_not_exists=True,
    )
    op.add_column(
        "connections",
        sa.Column("operator_pause_reason", sa.Text(), nullable=True),
        schema="sync",
        if_not_exists=True,
    )
    op.add_column(
        "connections",
        sa.Column(
            "operator_paused_until",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when the pause ends by itself; null: when an operator ends it",
        ),
        schema="sync",
        if_not_exists=True,
    )


def downgrade() -> None:
    op.drop_column("connections", "operator_paused_until", schema="sync", if_exists=True)
    op.drop_column("connections", "operator_pause_reason", schema="sync", if_exists=True)
    op.drop_column("connections", "operator_paused_by", schema="sync", if_exists=True)
    op.drop_column("connections", "operator_paused_at", schema="sync", if_exists=True)
    op.drop_index(
        "ix_operation_targets_queued",
        table_name="operation_targets",
        schema="sync",
        postgresql_where=sa.text("state = 'queued'"),
        if_exists=True,
    )
    op.drop_index(
        "ix_operation_targets_connection_id",
        table_name="operation_targets",
        schema="sync",
        if_exists=True,
    )
    op.drop_table("operation_targets", schema="sync", if_exists=True)
    op.drop_index(
        "uq_operations_idempotency_key",
        table_name="operations",
        schema="sync",
        postgresql_where=sa.text("idempotency_key is not null"),
        if_exists=True,
    )
    op.drop_index(
        "ix_operations_unfinished",
        table_name="operations",
        schema="sync",
        postgresql_where=sa.text("state in ('queued', 'running')"),
        if_exists=True,
    )
    op.drop_table("operations", schema="sync", if_exists=True)
    op.drop_table("counters", schema="sync", if_exists=True)
    op.drop_index(
        op.f("ix_audit_connection_id_id"), table_name="audit", schema="sync", if_exists=True
    )
    op.drop_table("audit", schema="sync", if_exists=True)
    op.execute("drop function if exists sync.refuse_change()")
    op.drop_table("api_tokens", schema="sync", if_exists=True)
