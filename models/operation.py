"""Tables of operations: actions of operators, and the connections that each is applied to."""

from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from models.base import SYNC, metadata
from models.connection import connections


class Action(StrEnum):
    """What an operator can ask for."""

    RESYNC = "resync"
    PAUSE = "pause"
    RESUME = "resume"
    APPROVE = "approve"
    REJECT = "reject"


class OperationState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    PARTIAL = "partial"
    """It failed for some of its connections."""
    FAILED = "failed"
    CANCELLED = "cancelled"
    """An operator cancelled it before a process began."""


class TargetState(StrEnum):
    QUEUED = "queued"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


operations = Table(
    "operations",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("action", Text, nullable=False),
    Column("state", Text, nullable=False, server_default=OperationState.QUEUED),
    Column(
        "parameters",
        JSONB,
        nullable=False,
        server_default=text("'{}'::jsonb"),
        comment="of the action, and the filter that chose the connections",
    ),
    Column("actor", Text, nullable=False),
    Column("via", Text, nullable=False),
    Column("request_id", Text),
    Column("idempotency_key", Text, comment="of the client; null once a day has passed"),
    Column("request_digest", Text, comment="of the request that came with this key"),
    Column("targets", Integer, nullable=False, comment="connections that it is applied to"),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("started_at", DateTime(timezone=True)),
    Column("finished_at", DateTime(timezone=True)),
    Column("holder", Text, comment="the process that carries it out"),
    Column("held_until", DateTime(timezone=True), comment="when another process may go on with it"),
    Column("error", Text, comment="why it failed, in plain words"),
    CheckConstraint("action in ('resync', 'pause', 'resume', 'approve', 'reject')", name="action"),
    CheckConstraint(
        "state in ('queued', 'running', 'succeeded', 'partial', 'failed', 'cancelled')",
        name="state",
    ),
    Index(
        "uq_operations_idempotency_key",
        "actor",
        "idempotency_key",
        unique=True,
        postgresql_where=text("idempotency_key is not null"),
    ),
    Index(
        "ix_operations_unfinished", "id", postgresql_where=text("state in ('queued', 'running')")
    ),
    schema=SYNC,
    comment="Actions that operators asked for; workers carry them out",
)

operation_targets = Table(
    "operation_targets",
    metadata,
    Column(
        "operation_id",
        BigInteger,
        ForeignKey(operations.c.id, ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    Column(
        "connection_id",
        BigInteger,
        ForeignKey(connections.c.id, ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("state", Text, nullable=False, server_default=TargetState.QUEUED),
    Column("detail", Text, comment="what was done, or why it failed, in plain words"),
    Column("result", JSONB, comment="counts, for programs"),
    Column("finished_at", DateTime(timezone=True)),
    CheckConstraint("state in ('queued', 'done', 'failed', 'cancelled')", name="state"),
    Index("ix_operation_targets_connection_id", "connection_id"),
    Index(
        "ix_operation_targets_queued",
        "operation_id",
        "connection_id",
        postgresql_where=text("state = 'queued'"),
    ),
    schema=SYNC,
    comment="The connections of an operation, and what became of each",
)
