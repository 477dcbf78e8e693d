"""Table of malformed objects from Graph: not decodable as a whole, or in some values."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Integer,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from models.base import SYNC, metadata
from models.connection import connections

quarantine = Table(
    "quarantine",
    metadata,
    Column(
        "connection_id",
        BigInteger,
        ForeignKey(connections.c.id, ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("resource", Text, primary_key=True),
    Column("key", Text, primary_key=True, comment="the id, or a digest where it is unreadable"),
    Column("reason", Text, nullable=False, comment="which property and why; no personal data"),
    Column("attempts", Integer, nullable=False, server_default="1"),
    Column("first_seen_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("last_seen_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("retry_at", DateTime(timezone=True), comment="when it is read again by id"),
    Column(
        "kept_apart",
        Boolean,
        nullable=False,
        server_default=text("true"),
        comment="the row stays as it was; false where only the values in properties are not exact",
    ),
    Column(
        "properties",
        JSONB,
        comment="by property, what was wrong with a value that was cleaned or is stored as null",
    ),
    schema=SYNC,
    comment="Malformed objects and values, with the reason",
)
