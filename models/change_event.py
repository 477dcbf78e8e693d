"""Table of change events: the mirror's history, a gap-free sequence for each connection."""

from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Index,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from models.base import EVENTS, metadata


class ChangeKind(StrEnum):
    """A change of an object."""

    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"
    RESTORED = "restored"


class ConnectionChange(StrEnum):
    """A change of a connection; consumers that rebuild rows from events skip these."""

    ADDED = "added"
    REMOVED = "removed"
    BROKEN = "broken"
    RECOVERED = "recovered"
    RESYNCED = "resynced"
    """Deltas could no longer be followed, and everything was read again."""
    COVERAGE_CHANGED = "coverage_changed"
    """The columns that a resource's rows and events tell are others from here on."""
    REWOUND = "rewound"
    """The database was restored or promoted: a new epoch begins with this event."""
    SNAPSHOT_COMPLETED = "snapshot_completed"
    """A sink has received the whole snapshot; delivered, never stored."""


change_events = Table(
    "change_events",
    metadata,
    Column("connection_id", BigInteger, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("occurred_at", DateTime(timezone=True), primary_key=True),
    Column(
        "event_id",
        Uuid(as_uuid=False),
        nullable=False,
        server_default=text("gen_random_uuid()"),
    ),
    Column("resource", Text, nullable=False),
    Column("object_id", Text, nullable=False, comment="memberships: group_id/member_id"),
    Column("change", Text, nullable=False),
    Column("changed", ARRAY(Text), comment="names of the changed columns, for updated"),
    Column("before", JSONB),
    Column("after", JSONB),
    Column("initial", Boolean, nullable=False, server_default=text("false")),
    Column("run_id", BigInteger),
    CheckConstraint(
        "change in ('created', 'updated', 'deleted', 'restored',"
        " 'added', 'removed', 'broken', 'recovered', 'resynced', 'rewound',"
        " 'coverage_changed')",
        name="change",
    ),
    # The events of one object. Those that created it in a first load, most of all, are left out: an
    # index of them would make first loads up to three times slower.
    Index(
        "ix_change_events_object",
        "connection_id",
        "object_id",
        "seq",
        postgresql_where=text("not (initial and change = 'created')"),
    ),
    schema=EVENTS,
    comment="Append only; seq is 1, 2, 3 ... for each connection without a gap",
    postgresql_partition_by="RANGE (occurred_at)",
)
