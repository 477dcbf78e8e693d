"""Tables of sinks, their secrets, and their positions in each connection's events."""

from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from models.base import EVENTS, SYNC, metadata


class SinkKind(StrEnum):
    REDIS_STREAM = "redis-stream"
    WEBHOOK = "webhook"


class SinkStatus(StrEnum):
    ACTIVE = "active"
    PAUSED = "paused"
    """Paused by an operator; its position stays."""
    DISABLED = "disabled"
    """Disabled by the receiver, which answered 410."""


class SinkStart(StrEnum):
    """Where a new sink starts."""

    NOW = "now"
    OLDEST = "oldest"
    """The oldest stored event."""
    SNAPSHOT = "snapshot"
    """The current rows as ``created`` events, followed by later events."""


sinks = Table(
    "sinks",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("status", Text, nullable=False, server_default=SinkStatus.ACTIVE),
    Column("status_reason", Text, comment="a plain sentence for the operator"),
    Column("settings", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("resources", ARRAY(Text), comment="only these; null: all"),
    Column("changes", ARRAY(Text), comment="only these; null: all"),
    Column("connections", ARRAY(BigInteger), comment="only these; null: all"),
    Column("initial", Boolean, nullable=False, server_default=text("true")),
    Column("start", Text, nullable=False, server_default=SinkStart.NOW),
    Column("token", BigInteger, nullable=False, server_default="0", comment="the fence"),
    Column("holder", Text, comment="relay that serves it, for people"),
    Column("expires_at", DateTime(timezone=True), comment="null while nobody serves it"),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("retry_at", DateTime(timezone=True), comment="when a failed delivery is tried again"),
    Column("last_delivered_at", DateTime(timezone=True)),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    UniqueConstraint("name"),
    CheckConstraint("kind in ('redis-stream', 'webhook')", name="kind"),
    CheckConstraint("status in ('active', 'paused', 'disabled')", name="status"),
    CheckConstraint("start in ('now', 'oldest', 'snapshot')", name="start"),
    schema=EVENTS,
    comment="Where change events are delivered to",
)

sink_secrets = Table(
    "sink_secrets",
    metadata,
    Column(
        "sink_id",
        BigInteger,
        ForeignKey(sinks.c.id, ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("secrets", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    schema=SYNC,
    comment="Signing keys, passwords and addresses with either; readers have no right here",
)

positions = Table(
    "positions",
    metadata,
    Column(
        "sink_id",
        BigInteger,
        ForeignKey(sinks.c.id, ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("connection_id", BigInteger, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False, comment="everything up to it is delivered"),
    Column("occurred_at", DateTime(timezone=True), comment="of that event: none is earlier"),
    Column("snapshot", JSONB, comment="where a snapshot under way goes on; seq is that of its cut"),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column(
        "failures",
        Integer,
        nullable=False,
        server_default="0",
        comment="tries in a row at which the receiver refused the next event",
    ),
    Column("retry_at", DateTime(timezone=True), comment="when the refused event is tried again"),
    Column("failed_at", DateTime(timezone=True)),
    Column("reason", Text, comment="a plain sentence for the operator"),
    Column("refused_id", Text, comment="id of the event that is refused"),
    schema=EVENTS,
    comment="How far each sink has come with each connection",
)
