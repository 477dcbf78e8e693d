"""Table of epochs of the change events; a restored or promoted database begins a new one."""

from sqlalchemy import BigInteger, Column, DateTime, Table, Text, Uuid, text

from models.base import EVENTS, metadata

epochs = Table(
    "epochs",
    metadata,
    Column(
        "id",
        Uuid(as_uuid=False),
        primary_key=True,
        comment="UUID of version 7: a later epoch has a greater id; the greatest is the current",
    ),
    Column("started_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("reason", Text, comment="why history was rewound; null for the first epoch"),
    Column("system_identifier", BigInteger, comment="of the server, where it tells"),
    Column("timeline", BigInteger, comment="of the server's WAL, where it tells"),
    Column("database_oid", BigInteger, comment="of the database; null until it was recorded"),
    Column("events_oid", BigInteger, comment="of events.change_events"),
    schema=EVENTS,
    comment="Sequence numbers count within an epoch; after a restore they are given again",
)
