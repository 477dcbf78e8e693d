"""Table of the resources that the database mirrors, as the last migration left them."""

from sqlalchemy import Column, DateTime, Table, Text, text

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
    schema=SYNC,
    comment="The resources that the database mirrors, and with which stream each is read",
)
