"""What the API answers with: one struct for each body."""

from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from models.audit import AuditOutcome, Via
from models.connection import ConnectionStatus
from models.run import RunState, RunTrigger
from worker.conditions.activity import Activity
from worker.conditions.condition import Code, Severity


class Word(StrEnum):
    """A status in one word."""

    ALIVE = "alive"
    READY = "ready"
    UNREADY = "unready"
    WELL = "well"
    UNWELL = "unwell"


class LiveAnswer(msgspec.Struct, frozen=True):
    """This process answers requests."""

    status: Word


class SchemaDetails(msgspec.Struct, frozen=True):
    """What this release needs of the database, and what was found."""

    found_schema: str | None
    needed_schema: str


class ReadyAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whether this process can serve: it reaches the database, at the schema that it needs."""

    status: Word
    details: SchemaDetails | None = None
    """With a token of the scope ``read``."""


class ConditionAnswer(msgspec.Struct, frozen=True):
    """One thing that is wrong or worth knowing."""

    code: Code
    severity: Severity
    subject: str
    """What it is about: a customer's name, a sink, a part of the service."""
    sentence: str
    remedy: str
    anchor: str
    """Where the documentation has its causes and remedies."""
    since: datetime | None
    connection_id: int | None
    resource: str | None
    affected: int
    """Of a condition of the service: connections that wait because of it."""
    customer_text: str | None
    """What to send to the customer, where only the customer can act."""


class HealthAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whether the service works as a whole."""

    status: Word
    parts: dict[str, Word]
    conditions: list[ConditionAnswer] | None = None
    """With a token of the scope ``read``."""


class BudgetAnswer(msgspec.Struct, frozen=True):
    """What is left of this minute's calls to Nango."""

    limit: int | None
    left: int | None
    resets_in_seconds: float | None
    paused_for_seconds: float


class WorkerAnswer(msgspec.Struct, frozen=True):
    """A worker as it last reported."""

    name: str
    queues: list[str]
    seen_seconds_ago: float
    is_alive: bool


class FleetAnswer(msgspec.Struct, frozen=True):
    """The service, and how many connections are in which state."""

    as_of: datetime
    connections: int
    attention: int
    """Connections that need attention for a reason of their own."""
    statuses: dict[ConnectionStatus, int]
    conditions: list[ConditionAnswer]
    """Of the service, the most severe first."""
    affected: dict[Code, int]
    budget: BudgetAnswer | None
    workers: list[WorkerAnswer]


class FreshnessAnswer(msgspec.Struct, frozen=True):
    """How old one resource is."""

    resource: str
    fresh_at: datetime | None
    """When its last complete read began; null if it was never loaded."""
    interval_seconds: float | None
    is_late: bool


class OutcomeAnswer(msgspec.Struct, frozen=True):
    """How the last run that ended went; what happens now is the activity."""

    run_id: int
    state: RunState
    started_at: datetime | None
    finished_at: datetime | None
    error: str | None


class PauseAnswer(msgspec.Struct, frozen=True):
    """A pause by an operator."""

    since: datetime
    by: str | None
    reason: str | None
    until: datetime | None


class ConnectionAnswer(msgspec.Struct, frozen=True):
    """A customer's connection."""

    id: int
    name: str | None
    """Its organization; null until the first call."""
    integration: str
    nango_id: str
    tenant_id: str | None
    status: ConnectionStatus
    status_reason: str | None
    created_at: datetime
    severity: Severity | None
    """The highest of its conditions."""
    needs_attention: bool
    conditions: list[ConditionAnswer]
    cause: Code | None
    """The condition of the service that holds it up, which is no condition of its own."""
    activity: Activity
    outcome: OutcomeAnswer | None
    pause: PauseAnswer | None
    age_seconds: float | None
    """Age of its oldest resource; null if one was never loaded."""
    freshness: list[FreshnessAnswer]
    due_at: datetime | None
    events: int
    """Number of its newest event."""


class ConnectionListAnswer(msgspec.Struct, frozen=True):
    """A page of connections, and counts of all that match."""

    as_of: datetime
    connections: list[ConnectionAnswer]
    total: int
    attention: int
    statuses: dict[ConnectionStatus, int]
    conditions: dict[Code, int]
    next: str | None
    """Pass it as ``after``; null on the last page."""


class RunAnswer(msgspec.Struct, frozen=True):
    """One attempt to sync a connection."""

    id: int
    connection_id: int
    trigger: RunTrigger
    state: RunState
    started_at: datetime
    finished_at: datetime | None
    slices: int
    calls: int
    pages: int
    objects: int
    created: int
    updated: int
    deleted: int
    restored: int
    rejected: int
    error: str | None
    resources: dict[str, Any] | None
    """What became of each resource."""


class RunListAnswer(msgspec.Struct, frozen=True):
    """Runs of a connection, newest first."""

    runs: list[RunAnswer]
    next: int | None
    """Pass it as ``after``; null on the last page."""


class ChangeCountAnswer(msgspec.Struct, frozen=True):
    """How often a resource changed in one way."""

    resource: str
    change: str
    number: int


class ChangeAnswer(msgspec.Struct, frozen=True):
    """A change of an object, without its values; the event has those."""

    seq: int
    occurred_at: datetime
    event_id: str
    resource: str
    object_id: str
    object: str
    """What people call it, where that is known."""
    change: str
    changed: list[str] | None
    """Names of the changed columns."""
    initial: bool


class ChangeListAnswer(msgspec.Struct, frozen=True):
    """Changes of a connection, newest first, and counts of all in that time."""

    since: datetime
    until: datetime | None
    counts: list[ChangeCountAnswer]
    changes: list[ChangeAnswer]
    next: int | None
    """Pass it as ``after``; null on the last page."""


class AuditEntryAnswer(msgspec.Struct, frozen=True):
    """Who did what."""

    id: int
    occurred_at: datetime
    actor: str
    via: Via
    action: str
    connection_id: int | None
    subject: str | None
    parameters: dict[str, Any]
    outcome: AuditOutcome
    detail: str | None
    operation_id: int | None
    request_id: str | None


class AuditAnswer(msgspec.Struct, frozen=True):
    """Entries of the audit, newest first."""

    entries: list[AuditEntryAnswer]
    next: int | None
    """Pass it as ``after``; null on the last page."""
