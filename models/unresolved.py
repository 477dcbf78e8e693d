"""Parts of a resource that Graph does not answer for: they stay as they are and are asked again."""

from enum import StrEnum
from typing import NamedTuple

from sqlalchemy import BigInteger, Column, DateTime, ForeignKey, Integer, Table, Text, text

from models.base import SYNC, metadata
from models.connection import connections


class PartKind(StrEnum):
    """What of an object is not known."""

    OBJECT = "object"
    """Whether it still exists, or what it is now: a read by id was refused, or it is locked."""
    UNLISTED = "unlisted"
    """It exists, but complete lists do not show it."""
    DELETIONS = "deletions"
    """Whether all the objects exist that a list did not show: too many to note each of them."""
    MEMBERS = "members"
    """Who the members of a group are."""
    MEMBER_OF = "member_of"
    """Which groups a user or a group is in."""
    ASSIGNMENTS = "assignments"
    """Who holds a role: the assignments of one definition."""


class Part(NamedTuple):
    """A part of a tenant: the object's resource and key, and what of it is meant."""

    resource: str
    kind: PartKind
    key: str


class NoAnswer(NamedTuple):
    """Why nothing is known of a part, and the seconds that Graph asks to wait."""

    reason: str
    retry_after: float = 0.0


unresolved = Table(
    "unresolved",
    metadata,
    Column(
        "connection_id",
        BigInteger,
        ForeignKey(connections.c.id, ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("resource", Text, primary_key=True, comment="the resource of the object"),
    Column("kind", Text, primary_key=True, comment="what of the object is not known"),
    Column("key", Text, primary_key=True, comment="the object's id"),
    Column("reason", Text, nullable=False, comment="what Graph answered; no personal data"),
    Column("attempts", Integer, nullable=False, server_default="1"),
    Column("first_seen_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("last_seen_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("retry_at", DateTime(timezone=True), nullable=False, comment="when it is asked again"),
    schema=SYNC,
    comment="Parts that Graph does not answer for: they stay as they are until it does",
)
