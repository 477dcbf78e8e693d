"""Table of the resources that the database mirrors, as the last migration left them."""

from sqlalchemy import Boolean, Column, DateTime, Table, Text, text

from models.base import SYNC, metadata

known_resources = Table(
    "resources",
    metadata,
    Column("name", Text, primary_key=True, comment="the resource, which is also its table"),
    Column("stream", Text, nullable=False, comment="the resource that it is read with"),
    Column(
        "added_at",
        DateTime(timezone=True),
        nullable=False,
        server_default=text("now()"),
        comment="when a migration added it",
    ),
    Column(
        "relation",
        Text,
        comment="property of the stream's objects that carries it; null for objects",
    ),
    Column(
        "is_optional",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="whether it is off unless it is switched on",
    ),
    schema=SYNC,
    comment="The resources that the database mirrors, and with which stream each is read",
)
