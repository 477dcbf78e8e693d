"""The conditions that can exist: a closed list of codes."""

from datetime import datetime
from enum import StrEnum
from typing import Final

import msgspec


class Severity(StrEnum):
    """How urgent a condition is, in rising order."""

    INFO = "info"
    """Worth knowing; nothing has to be done."""
    WARNING = "warning"
    """A person should look at it."""
    ERROR = "error"
    """Data is not synced or delivered until a person acts."""
    CRITICAL = "critical"
    """The whole service is affected."""

    @property
    def rank(self) -> int:
        return _RANKS[self]

    @property
    def needs_attention(self) -> bool:
        return self is not Severity.INFO


_RANKS: Final = {severity: rank for rank, severity in enumerate(Severity)}


class Code(StrEnum):
    """What can be wrong. Each code has a section in ``docs/operations.md``."""

    TOKEN_REFUSED = "token_refused"  # noqa: S105 - no password
    OTHER_TENANT = "other_tenant"
    REFUSED_BY_NANGO = "refused_by_nango"
    """Nango lacks the connection or its integration, or does not accept its id."""
    DUPLICATE = "duplicate"
    PAUSED_BY_OPERATOR = "paused_by_operator"
    PAUSED_IN_NANGO = "paused_in_nango"
    SETTINGS_WRONG = "settings_wrong"
    PERMISSION_MISSING = "permission_missing"
    """Or, as information: the tenant does not offer a resource, or lacks the licence for it."""
    HELD_DELETIONS = "held_deletions"
    NEVER_LOADED = "never_loaded"
    LATE = "late"
    THROTTLED_BY_GRAPH = "throttled_by_graph"
    SYNC_FAILING = "sync_failing"
    """A run failed, or a resource waits after an error."""
    QUARANTINE = "quarantine"
    """Objects that are malformed, or that Graph does not answer for."""
    DRIFT_HIGH = "drift_high"
    """A full walk found many changes that the deltas had missed."""
    HALTED = "halted"
    NANGO_SILENT = "nango_silent"
    WAITING_FOR_BUDGET = "waiting_for_budget"
    DISPATCHER_SILENT = "dispatcher_silent"
    WORKERS_SILENT = "workers_silent"
    SERVER_UNUSABLE = "server_unusable"
    """Postgres or Redis is away, or has no room."""
    CLOCK_OFF = "clock_off"
    RELAY_MISSING = "relay_missing"
    SINK_FAILING = "sink_failing"
    EVENTS_LOST = "events_lost"
    """Events were dropped, or soon are, before a sink received them."""

    @property
    def anchor(self) -> str:
        return f"docs/operations.md#condition-{self.value}"


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong or worth knowing, with its cause and what to do next."""

    code: Code
    severity: Severity
    subject: str
    """What it is about: a connection's name, a sink, a host, or a part of the service."""
    sentence: str
    """The facts, as a sentence without the subject."""
    remedy: str
    """What to do next, with the command."""
    since: datetime | None = None
    connection_id: int | None = None
    resource: str | None = None
    affected: int = 0
    """For a condition of the service: connections that wait because of it."""
    customer_text: str | None = None
    """The text to send to the customer, where only the customer can act."""

    @property
    def anchor(self) -> str:
        """The section of the documentation with cause and remedy."""
        return self.code.anchor

    def to_json(self) -> dict[str, object]:
        """Return every field for programs."""
        return {**msgspec.structs.asdict(self), "anchor": self.anchor}
