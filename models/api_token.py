"""Table of the tokens that clients of the HTTP API present."""

from enum import StrEnum

from sqlalchemy import CheckConstraint, Column, DateTime, LargeBinary, Table, Text, text
from sqlalchemy.dialects.postgresql import ARRAY

from models.base import SYNC, metadata


class Scope(StrEnum):
    """What a token may do."""

    READ = "read"
    """Read the state of the fleet."""
    OPERATE = "operate"
    """Act: resync, pause, resume, approve, reject."""
    METRICS = "metrics"
    """Read the metrics."""


api_tokens = Table(
    "api_tokens",
    metadata,
    Column("id", Text, primary_key=True, comment="public part of the token, which looks it up"),
    Column("name", Text, nullable=False, unique=True, comment="who or what presents it"),
    Column("digest", LargeBinary, nullable=False, comment="SHA-256 of the whole token"),
    Column("scopes", ARRAY(Text), nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("created_by", Text, nullable=False),
    Column("expires_at", DateTime(timezone=True), comment="null: it does not expire"),
    Column("last_used_at", DateTime(timezone=True), comment="to the minute; null: never used"),
    Column("revoked_at", DateTime(timezone=True)),
    CheckConstraint("scopes <@ array['read', 'operate', 'metrics']", name="scopes"),
    schema=SYNC,
    comment="Tokens of the HTTP API; only their digests are stored",
)
