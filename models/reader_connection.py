"""Table of the logins of customers: which connection each role of Postgres may see."""

from sqlalchemy import BigInteger, Column, DateTime, ForeignKey, Index, Table, Text, text

from models.base import SYNC, metadata
from models.connection import connections

reader_connections = Table(
    "reader_connections",
    metadata,
    Column("role_name", Text, primary_key=True, comment="role of Postgres, as it logs in"),
    Column(
        "connection_id",
        BigInteger,
        ForeignKey(connections.c.id, ondelete="CASCADE"),
        nullable=False,
        comment="the connection whose rows it may see",
    ),
    Column(
        "created_at",
        DateTime(timezone=True),
        nullable=False,
        server_default=text("now()"),
        comment="when an operator let it",
    ),
    Index(None, "connection_id"),
    schema=SYNC,
    comment="Which connection each login of a customer may see; row-level security reads it",
)
