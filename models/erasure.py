"""Table of erased objects, stored as keyed digests, so that no sync mirrors them again."""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    ForeignKey,
    Index,
    LargeBinary,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from models.base import SYNC, metadata
from models.connection import connections

ERASED_PREFIX: Final = "erased:"
"""Prefix of the digest that replaces an erased id in the keys of events."""

erasures = Table(
    "erasures",
    metadata,
    Column(
        "connection_id",
        BigInteger,
        ForeignKey(connections.c.id, ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("digest", LargeBinary, primary_key=True, comment="keyed digest of the object's id"),
    Column("resource", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column(
        "last_seq",
        BigInteger,
        comment="the closing event; no later one tells of it; null where none ever did",
    ),
    Column(
        "pending",
        JSONB,
        comment="who it is and how far the events are scrubbed; null once all of them are",
    ),
    Column("scrubbed_at", DateTime(timezone=True), comment="null while scrubbing is under way"),
    Index("ix_erasures_pending", "created_at", postgresql_where=text("scrubbed_at is null")),
    schema=SYNC,
    comment="Erased objects; a sync passes over them until the erasure is lifted",
)
