"""Table of leases: which process may write a connection, and its last event sequence number.

Separate from ``connections`` because every commit updates this row: it stays narrow.
"""

from sqlalchemy import BigInteger, Column, DateTime, ForeignKey, Table, Text

from models.base import SYNC, metadata
from models.connection import connections

leases = Table(
    "leases",
    metadata,
    Column(
        "connection_id",
        BigInteger,
        ForeignKey(connections.c.id, ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("token", BigInteger, nullable=False, server_default="0", comment="the fence"),
    Column("holder", Text, comment="process that holds it, for people"),
    Column("expires_at", DateTime(timezone=True), comment="null while free"),
    Column("event_seq", BigInteger, nullable=False, server_default="0"),
    # Time of the latest write transaction since the first event.
    Column("last_event_at", DateTime(timezone=True)),
    schema=SYNC,
    comment="One writer a connection: a lease with a fencing token, and the event counter",
)
