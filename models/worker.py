"""Table of Celery workers that consume queues."""

from sqlalchemy import Column, DateTime, Table, Text
from sqlalchemy.dialects.postgresql import ARRAY

from models.base import SYNC, metadata

workers = Table(
    "workers",
    metadata,
    Column("name", Text, primary_key=True, comment="as Celery calls it, with its process"),
    Column("queues", ARRAY(Text), nullable=False),
    Column("processes", ARRAY(Text), nullable=False, comment="as leases name their holders"),
    Column("seen_at", DateTime(timezone=True), nullable=False),
    schema=SYNC,
    comment="Workers that consume queues; each says so every few seconds",
)
