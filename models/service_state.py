"""Table of facts about the service as a whole that outlive a process."""

from sqlalchemy import Column, DateTime, Table, Text, text
from sqlalchemy.dialects.postgresql import JSONB

from models.base import SYNC, metadata

service_state = Table(
    "service_state",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    schema=SYNC,
    comment="Facts about the service as a whole: last discovery, last tick, a halt",
)
