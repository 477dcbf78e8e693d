"""Objects that Graph sent and that could not be understood."""

from sqlalchemy import BigInteger, Column, DateTime, ForeignKey, Integer, Table, Text, text

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
    schema=SYNC,
    comment="Malformed objects, kept out of the mirror with the reason",
)
