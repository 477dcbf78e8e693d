"""The stored facts that are judged: what the database and Redis hold at one moment."""

from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from models.connection import ConnectionStatus
from models.run import RunState, RunTrigger
from models.stream import Phase
from worker.conditions.reasons import is_not_licensed
from worker.conditions.resource_age import ResourceAge, list_ages, list_off
from worker.core.time_text import drop_jitter, render_age

DUE_PATIENCE_SECONDS: Final = 300.0
"""How long a connection may be due, while the dispatcher works, before that needs attention."""


class StreamFacts(msgspec.Struct, frozen=True, gc=False):
    """A stream that is not simply at rest: refused, held, waiting, or read in another way."""

    connection_id: int
    resource: str
    phase: str
    mode: str
    reason: str | None
    due_at: datetime | None
    out_of_budget: bool
    best_effort: bool
    """Whether the reason only says that a walk can never be complete."""
    drift: dict[str, dict[str, int]] | None
    full_walk_at: datetime | None
    held: int
    """Deletions that wait for approval, those of its edges included."""

    @property
    def is_refused(self) -> bool:
        return self.phase == Phase.REFUSED

    @property
    def is_not_licensed(self) -> bool:
        """Whether it is refused because the tenant lacks the licence."""
        return self.is_refused and is_not_licensed(self.reason)

    @property
    def is_held(self) -> bool:
        return self.phase == Phase.HELD

    @property
    def is_waiting(self) -> bool:
        """Whether it waits after an error."""
        if self.reason is None or self.is_refused or self.is_held:
            return False
        return not self.best_effort


class ConnectionFacts(msgspec.Struct, frozen=True):
    """Everything that is stored about one connection's state."""

    id: int
    integration: str
    nango_id: str
    provider: str
    tenant_id: str | None
    name: str | None
    """Its organization's name; None until the first call."""
    domains: str | None
    """Domains in its users' sign-in names, separated by spaces; None until they were read."""
    status: str
    status_reason: str | None
    settings_problem: str | None
    created_at: datetime
    retired_at: datetime | None
    due_at: datetime | None
    waiting_since: datetime | None
    """When it fell due, if its message was sent and no slice has ended since."""
    requested_at: datetime | None
    requested_full: bool
    broken_count: int
    paused_at: datetime | None
    paused_by: str | None
    pause_reason: str | None
    paused_until: datetime | None
    holder: str | None
    """The process that syncs it now."""
    lease_until: datetime | None
    events: int
    running_id: int | None
    running_trigger: str | None
    running_since: datetime | None
    running_calls: int | None
    running_objects: int | None
    last_run_id: int | None
    last_state: str | None
    """The outcome of the last run that ended."""
    last_trigger: str | None
    last_started_at: datetime | None
    last_finished_at: datetime | None
    last_error: str | None
    last_calls: int | None
    last_objects: int | None
    last_aborted: bool
    """Whether that run ended before it could read any resource."""
    is_first_load: bool
    """Whether the first load of a resource can go on now."""
    quarantined: int
    inexact: int
    unresolved: int
    freshness: tuple[ResourceAge, ...]
    """Every resource with a stream of its own, in the order of the registry."""
    late_at: float
    """From when on one of them is late, in Unix seconds."""
    streams: tuple[StreamFacts, ...] = ()
    graph_pauses: dict[str, float] = {}
    """Seconds for which Graph asked to send nothing, by service."""

    def list_pause_ends(self, now: datetime) -> list[datetime]:
        """Return when the pauses end that Graph asked for."""
        seconds = self.graph_pauses.values()
        return [drop_jitter(now + timedelta(seconds=one)) for one in seconds]

    @property
    def label(self) -> str:
        return f"{self.integration}/{self.nango_id}"

    @property
    def title(self) -> str:
        """What people call it: its organization's name, else its label."""
        return self.name or self.label

    @property
    def is_synced(self) -> bool:
        return self.status in (ConnectionStatus.ACTIVE, ConnectionStatus.BROKEN)

    @property
    def fresh_at(self) -> float | None:
        """When the oldest resource was read, in Unix seconds; None if one was never loaded.

        Those that are not to be read do not count, nor new ones until they are loaded.
        """
        oldest: float | None = None
        for one in self.freshness:
            if not one.is_read or one.is_new:
                continue
            if one.fresh_at is None:
                return None
            oldest = one.fresh_at if oldest is None else min(oldest, one.fresh_at)
        return oldest

    def list_off(self) -> frozenset[str]:
        """Return the resources that the settings do not let be read."""
        return list_off(self.freshness)

    def list_ages(self) -> dict[str, ResourceAge]:
        """Return the age of every resource; edges are as old as their parent, and may be off."""
        return list_ages(self.freshness)

    def is_paused(self, now: datetime) -> bool:
        """Whether an operator has paused it."""
        if self.paused_at is None:
            return False
        return self.paused_until is None or self.paused_until > now

    @property
    def lane(self) -> RunTrigger:
        """The queue of its next slice."""
        if self.requested_at is not None:
            return RunTrigger.MANUAL
        if self.running_trigger == RunTrigger.BACKFILL or self.is_first_load:
            return RunTrigger.BACKFILL
        return RunTrigger.SCHEDULED

    @property
    def has_failed(self) -> bool:
        return self.last_state == RunState.FAILED


class WorkerFacts(msgspec.Struct, frozen=True):
    """A worker as it last reported."""

    name: str
    queues: list[str]
    processes: list[str]
    """As leases name their holders."""
    seen_seconds_ago: float
    is_alive: bool


class ClockFacts(msgspec.Struct, frozen=True):
    """A host whose clock differs from Postgres's."""

    host: str
    seconds: float
    """Seconds ahead of Postgres's clock; negative if behind."""


class SinkFacts(msgspec.Struct, frozen=True):
    """A sink's state, without its secrets."""

    id: int
    name: str
    kind: str
    status: str
    status_reason: str | None
    failures: int
    retry_at: datetime | None
    last_delivered_at: datetime | None
    served: bool
    """Whether a relay serves it."""
    refused_connections: int
    refused_at: datetime | None
    refused_reason: str | None
    lost_events: int
    """Events that were dropped before it received them."""
    lost_connections: int
    lost_at: datetime | None
    kept_events: int = 0
    """Events past their retention that are kept for it."""
    kept_until: datetime | None = None


class MissingFacts(msgspec.Struct, frozen=True):
    """Connections that Nango's list lacks: too many at once to be plausible."""

    reason: str
    ids: frozenset[int]
    since: datetime


class HaltFacts(msgspec.Struct, frozen=True):
    """All calls pause, as the configuration is wrong."""

    reason: str
    since: datetime
    until: datetime


class OutageFacts(msgspec.Struct, frozen=True):
    """Nango does not work."""

    seconds: float
    reason: str

    def render(self) -> str:
        return f"Nango has not worked for {render_age(self.seconds)}: {self.reason}"


class BudgetFacts(msgspec.Struct, frozen=True):
    """What is left of this minute's budget of Nango calls."""

    limit: int | None
    left: int | None
    resets_in_seconds: float | None
    paused_for_seconds: float
    source: str
    calls: dict[str, int]
    allowances: dict[str, int | None] = {}
    """Connections that may still be dispatched, by lane; None for any number."""

    def to_json(self) -> dict[str, Any]:
        shown = msgspec.structs.asdict(self)
        del shown["allowances"]
        return shown


class SharedFacts(msgspec.Struct, frozen=True):
    """What the workers share through Redis; None for what is not shared or not known."""

    budget: BudgetFacts | None = None
    outage: OutageFacts | None = None
    shortage: str | None = None
    """The shortage of disk or memory that a worker met within the last minutes."""
    redis_problem: str | None = None
    """Why Redis cannot be written now."""


class ServiceFacts(msgspec.Struct, frozen=True):
    """What concerns all connections."""

    now: datetime
    """The database's time, which all ages are measured by."""
    tick_seconds: float
    """Seconds between two ticks of the dispatcher, by the settings."""
    queues: tuple[str, ...]
    """Every queue that must have a worker."""
    tick_at: datetime | None = None
    sent_at: datetime | None = None
    """When the dispatcher last sent a connection that was due or requested."""
    held_back: str | None = None
    """Why the dispatcher may send nothing, though it works."""
    halt: HaltFacts | None = None
    missing: MissingFacts | None = None
    workers: tuple[WorkerFacts, ...] = ()
    clocks: tuple[ClockFacts, ...] = ()
    sinks: tuple[SinkFacts, ...] = ()
    client_ids: tuple[str, ...] = ()
    """Ids of the applications that customers consent to, as the setting has them."""
    shared: SharedFacts = SharedFacts()
    database_problem: str | None = None
    """Why nothing could be read from Postgres."""

    @property
    def tick_age(self) -> float | None:
        return None if self.tick_at is None else (self.now - self.tick_at).total_seconds()

    @property
    def is_dispatcher_alive(self) -> bool:
        age = self.tick_age
        return age is not None and age < 6 * self.tick_seconds + 30

    @property
    def is_sending(self) -> bool:
        """Whether the dispatcher has sent something within its patience."""
        if self.sent_at is None or self.held_back is not None:
            return False
        return (self.now - self.sent_at).total_seconds() <= DUE_PATIENCE_SECONDS

    @property
    def unserved_queues(self) -> tuple[str, ...]:
        """The queues that no live worker consumes."""
        served = {queue for one in self.workers if one.is_alive for queue in one.queues}
        return tuple(queue for queue in self.queues if queue not in served)
