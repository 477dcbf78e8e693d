"""Table of parts that Graph does not answer for: they stay as they are and are retried."""

from enum import StrEnum
from typing import NamedTuple

from sqlalchemy import BigInteger, Column, DateTime, ForeignKey, Integer, Table, Text, text

from models.base import SYNC, metadata
from models.connection import connections


class PartKind(StrEnum):
    """What is not known of an object."""

    OBJECT = "object"
    """Whether it exists, or its current state: a read by id was refused, or it is locked."""
    UNLISTED = "unlisted"
    """It exists, but complete lists do not show it."""
    DELETIONS = "deletions"
    """Whether the objects missing from a list still exist: too many to store each of them."""
    MEMBERS = "members"
    """The members of an edge's parent; the resource is that of the edges."""
    MEMBER_OF = "member_of"
    """The parents that an object is a member of."""
    ASSIGNMENTS = "assignments"
    """The assignments of one role definition."""
    LIST = "list"
    """The list below one object of another resource; the resource is that of what it lists."""


class Part(NamedTuple):
    """A part of a tenant: an object's resource and key, and what is not known of it."""

    resource: str
    kind: PartKind
    key: str


class NoAnswer(NamedTuple):
    """Why Graph does not answer for a part, and how many seconds it asks to wait."""

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
