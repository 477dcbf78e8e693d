"""Table of Nango connections. Each is one customer's authorization to a Microsoft tenant."""

from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from models.base import SYNC, metadata


class ConnectionStatus(StrEnum):
    ACTIVE = "active"
    PAUSED = "paused"
    """Disabled by its settings in Nango."""
    BROKEN = "broken"
    """Needs an operator: revoked, or authorized to another tenant."""
    DUPLICATE = "duplicate"
    """Another live connection already mirrors this tenant."""
    RETIRED = "retired"
    """No longer in Nango; its rows are kept until an operator runs ``forget``."""


connections = Table(
    "connections",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("nango_connection_id", Text, nullable=False),
    Column("provider_config_key", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("tenant_id", Uuid(as_uuid=False), comment="learnt from Graph's organization"),
    Column("display_name", Text),
    Column(
        "domains",
        ARRAY(Text),
        comment="domains in its users' sign-in names, the most frequent first; null: not read yet",
    ),
    Column("status", Text, nullable=False, server_default=ConnectionStatus.ACTIVE),
    Column("status_reason", Text, comment="a plain sentence for the operator"),
    Column("settings", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("settings_problem", Text, comment="what is wrong with the settings kept in Nango"),
    Column("due_at", DateTime(timezone=True), comment="when a worker should look again"),
    Column(
        "waiting_since",
        DateTime(timezone=True),
        comment="when it fell due, where no slice has ended since it was claimed",
    ),
    Column("broken_count", Integer, nullable=False, server_default="0"),
    Column("requested_at", DateTime(timezone=True), comment="an operator asked for a resync"),
    Column("requested_resources", ARRAY(Text)),
    Column("requested_full", Boolean, nullable=False, server_default=text("false")),
    Column("operator_paused_at", DateTime(timezone=True), comment="an operator paused its syncs"),
    Column("operator_paused_by", Text),
    Column("operator_pause_reason", Text),
    Column(
        "operator_paused_until",
        DateTime(timezone=True),
        comment="when the pause ends by itself; null: when an operator ends it",
    ),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("retired_at", DateTime(timezone=True)),
    CheckConstraint(
        "status in ('active', 'paused', 'broken', 'duplicate', 'retired')", name="status"
    ),
    Index(
        "ix_connections_due",
        "due_at",
        postgresql_where=text("status in ('active', 'broken')"),
    ),
    Index(
        "uq_connections_address",
        "provider_config_key",
        "nango_connection_id",
        unique=True,
        postgresql_where=text("status <> 'retired'"),
    ),
    schema=SYNC,
    comment="Nango connections; an id is never used again",
)
