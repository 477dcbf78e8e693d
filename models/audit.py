"""Table of operators' actions. A trigger refuses every change of a row."""

from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Identity,
    Index,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from models.base import SYNC, metadata


class Via(StrEnum):
    """The face through which an action came."""

    CLI = "cli"
    API = "api"
    PAGE = "page"
    SERVICE = "service"
    """The service itself: a pause that ended."""


class AuditAction(StrEnum):
    """What an entry is about: the command that does it, with a dot before its subcommand."""

    SYNC = "sync"
    RESYNC = "resync"
    APPROVE = "approve"
    REJECT = "reject"
    PAUSE = "pause"
    RESUME = "resume"
    FORGET = "forget"
    ERASE = "erase"
    ERASE_LIFT = "erase.lift"
    RECOVERED = "recovered"
    OPERATIONS_CANCEL = "operations.cancel"
    CONNECTIONS_DISCOVER = "connections.discover"
    CONNECTIONS_APPROVE_MISSING = "connections.approve-missing"
    SINKS_ADD = "sinks.add"
    SINKS_REMOVE = "sinks.remove"
    SINKS_SET_URL = "sinks.set-url"
    SINKS_PAUSE = "sinks.pause"
    SINKS_RESUME = "sinks.resume"
    SINKS_SKIP = "sinks.skip"
    SINKS_RETRY = "sinks.retry"
    SINKS_ROTATE = "sinks.rotate"
    EVENTS_REPLAY = "events.replay"
    TOKENS_CREATE = "tokens.create"
    TOKENS_REVOKE = "tokens.revoke"
    ROLES = "roles"


class AuditOutcome(StrEnum):
    ACCEPTED = "accepted"
    """It was queued or has begun; its outcome has an entry of its own."""
    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"


audit = Table(
    "audit",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("occurred_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("actor", Text, nullable=False, comment="name of the token, or the user of the host"),
    Column("via", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column(
        "connection_id",
        BigInteger,
        comment="null: not about one connection; no foreign key, as entries outlive connections",
    ),
    Column("subject", Text, comment="what it was done to: a connection's label, a sink, a token"),
    Column(
        "parameters",
        JSONB,
        nullable=False,
        server_default=text("'{}'::jsonb"),
        comment="as asked for; counts and digests, never objects of a directory",
    ),
    Column("outcome", Text, nullable=False),
    Column("detail", Text, comment="what became of it, or why it was refused"),
    Column("operation_id", BigInteger),
    Column("request_id", Text, comment="of the HTTP request, which the log also shows"),
    CheckConstraint("via in ('cli', 'api', 'page', 'service')", name="via"),
    CheckConstraint("outcome in ('accepted', 'done', 'refused', 'failed')", name="outcome"),
    Index(None, "connection_id", "id"),
    Index(None, "actor", "id"),
    Index(None, "action", "id"),
    schema=SYNC,
    comment="Who did what, when, through which face; rows are only ever added",
)
