"""Table of runs. A run is one attempt to sync a connection; it may span several slices."""

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


class RunState(StrEnum):
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    PARTIAL = "partial"
    """Something is missing: a refused resource, a malformed object, or a waiting stream."""
    HELD = "held"
    """A deletion waits for an operator."""
    FAILED = "failed"


class RunTrigger(StrEnum):
    """Why a run started; also the queue of its slices."""

    MANUAL = "manual"
    SCHEDULED = "scheduled"
    BACKFILL = "backfill"


runs = Table(
    "runs",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column(
        "connection_id",
        BigInteger,
        ForeignKey(connections.c.id, ondelete="CASCADE"),
        nullable=False,
    ),
    Column("trigger", Text, nullable=False),
    Column("state", Text, nullable=False, server_default=RunState.RUNNING),
    Column("started_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("finished_at", DateTime(timezone=True)),
    Column("slices", Integer, nullable=False, server_default="0"),
    Column("calls", Integer, nullable=False, server_default="0", comment="Nango calls"),
    Column("pages", Integer, nullable=False, server_default="0"),
    Column("objects", BigInteger, nullable=False, server_default="0", comment="objects received"),
    Column("created", BigInteger, nullable=False, server_default="0"),
    Column("updated", BigInteger, nullable=False, server_default="0"),
    Column("deleted", BigInteger, nullable=False, server_default="0"),
    Column("restored", BigInteger, nullable=False, server_default="0"),
    Column("rejected", Integer, nullable=False, server_default="0"),
    Column("error", Text, comment="what went wrong and what to do, in plain words"),
    Column("resources", JSONB, comment="what became of each resource"),
    CheckConstraint("state in ('running', 'succeeded', 'partial', 'held', 'failed')", name="state"),
    CheckConstraint("trigger in ('manual', 'scheduled', 'backfill')", name="trigger"),
    Index(None, "connection_id", "id"),
    Index(
        "ix_runs_running",
        "connection_id",
        unique=True,
        postgresql_where=text("state = 'running'"),
    ),
    Index(
        "ix_runs_unsuccessful",
        "state",
        "id",
        postgresql_where=text("state in ('partial', 'held', 'failed')"),
    ),
    Index(
        "ix_runs_unscheduled",
        "trigger",
        "id",
        postgresql_where=text("trigger in ('manual', 'backfill')"),
    ),
    schema=SYNC,
    comment="The history of syncs",
)
