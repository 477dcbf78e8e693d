"""A consistent look at the whole fleet: every connection with its conditions, and the service."""

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec

from models.connection import ConnectionStatus
from models.queues import ALL_QUEUES
from worker.conditions.activity import Activity, describe_activity
from worker.conditions.causes import FleetCause, Situation
from worker.conditions.condition import Code, Condition, Severity
from worker.conditions.connection_judge import judge_connection
from worker.conditions.facts import ConnectionFacts, ServiceFacts, SharedFacts
from worker.conditions.fleet_judge import judge_fleet
from worker.conditions.fold import fold_conditions
from worker.conditions.texts import fill_in_client_id, insert_client_id
from worker.core.errors import RetryLater, ServerUnavailable
from worker.core.settings import Settings
from worker.delivery.store.sink_facts import load_sink_facts
from worker.overview.budget import open_shared_limiter
from worker.overview.shared_state import (
    GraphPauses,
    load_pauses,
    load_shared_facts,
)
from worker.store.engine import Database
from worker.store.service.service_facts import load_service_facts
from worker.store.state.condition_facts import load_connection_facts

if TYPE_CHECKING:
    from worker.nango.limiter import RateLimiter

Derived = TypeVar("Derived")


class FleetConnection:
    """A connection as it is judged at one moment."""

    __slots__ = ("_situation", "_text", "cause", "conditions", "facts")

    def __init__(
        self,
        facts: ConnectionFacts,
        conditions: tuple[Condition, ...],
        cause: FleetCause | None,
        situation: Situation,
    ) -> None:
        self.facts = facts
        self.conditions = conditions
        """Its own conditions, the most severe first."""
        self.cause = cause
        """What holds it up together with others; its lateness is folded into that condition."""
        self._situation = situation
        self._text: str | None = None

    @property
    def id(self) -> int:
        return self.facts.id

    @property
    def activity(self) -> Activity:
        """What it does or waits for now."""
        return describe_activity(self.facts, self._situation)

    @property
    def severity(self) -> Severity | None:
        """The highest severity of its conditions; None if there are none."""
        return self.conditions[0].severity if self.conditions else None

    @property
    def needs_attention(self) -> bool:
        return bool(self.conditions) and self.conditions[0].severity.needs_attention

    @property
    def is_paused(self) -> bool:
        """Whether an operator has paused it, or its metadata in Nango does."""
        facts = self.facts
        return facts.status == ConnectionStatus.PAUSED or facts.is_paused(self._situation.now)

    @property
    def codes(self) -> frozenset[Code]:
        """The codes of its conditions, and of the condition of the service that holds it up."""
        own = {one.code for one in self.conditions}
        return frozenset(own if self.cause is None else own | {self.cause.code})

    @property
    def age_seconds(self) -> float | None:
        """The age of its oldest resource; None if one was never loaded."""
        fresh_at = self.facts.fresh_at
        return None if fresh_at is None else self._situation.now.timestamp() - fresh_at

    def complete_text(self, customer_text: str) -> str:
        """Return a text to the customer with the client id of our application, if it is set."""
        client_ids = self._situation.service.client_ids
        return fill_in_client_id(customer_text, self.facts.integration, client_ids)

    @property
    def search_text(self) -> str:
        """What it can be found by, a line for each kind, in lower case."""
        if self._text is None:
            facts = self.facts
            names = (facts.name, facts.label, facts.tenant_id, facts.domains, str(facts.id))
            self._text = "\n".join(filter(None, names)).casefold()
        return self._text


@dataclass(frozen=True)
class Fleet:
    """All connections and the service, as they were at one moment."""

    service: ServiceFacts
    connections: Sequence[FleetConnection]
    """By id."""
    conditions: tuple[Condition, ...]
    """The conditions of the service, the most severe first."""
    affected: Mapping[Code, int] = field(default_factory=dict)
    """How many connections each condition of the service holds up."""
    _derived: dict[object, object] = field(default_factory=dict, repr=False, compare=False)
    _asked: set[tuple[Any, tuple[Hashable, ...]]] = field(
        default_factory=set, repr=False, compare=False
    )

    def derive(self, compute: "Callable[..., Derived]", *arguments: Hashable) -> Derived:
        """Return what a function makes of this look and arguments. It runs once for all who ask."""
        key = (compute, arguments)
        self._asked.add(key)
        if key not in self._derived:
            self._derived[key] = compute(self, *arguments)
        return cast(Derived, self._derived[key])

    def prepare_like(self, previous: "Fleet") -> None:
        """Derive what was asked of the previous look, so that no request waits for it."""
        for compute, arguments in tuple(previous._asked):  # noqa: SLF001 - of the same class
            self._derived[compute, arguments] = compute(self, *arguments)

    @property
    def now(self) -> datetime:
        return self.service.now

    @cached_property
    def by_id(self) -> Mapping[int, FleetConnection]:
        return {one.id: one for one in self.connections}

    @cached_property
    def in_use(self) -> Sequence[FleetConnection]:
        """The connections that are not retired."""
        return [one for one in self.connections if one.facts.status != ConnectionStatus.RETIRED]

    @cached_property
    def attention_count(self) -> int:
        """How many connections need attention for a reason of their own."""
        return sum(one.needs_attention for one in self.in_use)

    @cached_property
    def paused_count(self) -> int:
        """How many connections are paused, by an operator or in Nango, and need no attention."""
        return sum(one.is_paused and not one.needs_attention for one in self.in_use)

    @cached_property
    def waiting_count(self) -> int:
        """How many connections wait for the service itself, and need no attention of their own."""
        return sum(one.cause is not None and not one.needs_attention for one in self.in_use)

    @property
    def fine_count(self) -> int:
        """How many connections are synced as they should be."""
        others = self.attention_count + self.paused_count + self.waiting_count
        return len(self.in_use) - others

    @cached_property
    def status_counts(self) -> Mapping[str, int]:
        return Counter(one.facts.status for one in self.connections)

    @property
    def needs_attention(self) -> bool:
        """Whether anything does, a connection or the service."""
        return self.attention_count > 0 or any(
            one.severity.needs_attention for one in self.conditions
        )


def load_fleet(
    database: Database,
    settings: Settings,
    *,
    ids: Collection[int] | None = None,
    limiter: "RateLimiter | None" = None,
) -> Fleet:
    """Load and judge all connections, or those with these ``ids``, and the service.

    ``limiter`` is used if the caller has one open. A server that is away is a condition: without
    Postgres there are no connections.
    """
    try:
        facts, service = _load_stored(database, settings, ids)
    except (ServerUnavailable, RetryLater) as error:
        facts, service = [], _build_blind_facts(settings, error.message)
    with ExitStack() as stack:
        if limiter is None:
            limiter = open_shared_limiter(settings)
            if limiter is not None:
                stack.callback(limiter.close)
        if limiter is not None:
            shared, pauses = _load_shared(limiter, settings, facts)
            service = msgspec.structs.replace(service, shared=shared)
            facts = _add_pauses(facts, pauses)
    return judge(facts, service)


def judge(facts: Sequence[ConnectionFacts], service: ServiceFacts) -> Fleet:
    """Judge facts. Pure."""
    situation, now, missing = Situation(service), service.now, service.missing
    connections, affected = [], Counter[Code]()
    for one in facts:
        folded = fold_conditions(one, judge_connection(one, now, missing), situation)
        if folded.cause is not None:
            affected[folded.cause.code] += 1
        own = folded.conditions
        if own:
            own = insert_client_id(own, one.integration, service.client_ids)
        connections.append(FleetConnection(one, own, folded.cause, situation))
    return Fleet(service, connections, judge_fleet(service, affected), affected)


def _load_stored(
    database: Database, settings: Settings, ids: Collection[int] | None
) -> tuple[list[ConnectionFacts], ServiceFacts]:
    with database.open_transaction() as db:
        facts = load_connection_facts(db, ids)
        service = load_service_facts(db, tick_seconds=settings.tick_seconds, queues=ALL_QUEUES)
        sinks = load_sink_facts(
            db, days=settings.events_days, grace_days=settings.events_grace_days
        )
    return facts, msgspec.structs.replace(service, sinks=sinks, client_ids=settings.client_ids)


def _build_blind_facts(settings: Settings, problem: str) -> ServiceFacts:
    """Return the facts about a service whose database cannot be read."""
    return ServiceFacts(
        now=datetime.now(UTC),
        tick_seconds=settings.tick_seconds,
        queues=(),
        database_problem=problem,
    )


def _load_shared(
    limiter: "RateLimiter", settings: Settings, facts: Sequence[ConnectionFacts]
) -> tuple[SharedFacts, GraphPauses]:
    shared = load_shared_facts(limiter, is_set=settings.nango_calls_per_minute is not None)
    if shared.redis_problem is not None:
        return shared, {}
    return shared, load_pauses(limiter, [one.label for one in facts if one.is_synced])


def _add_pauses(facts: list[ConnectionFacts], pauses: GraphPauses) -> list[ConnectionFacts]:
    if not pauses:
        return facts
    return [
        msgspec.structs.replace(one, graph_pauses=pauses[one.label]) if one.label in pauses else one
        for one in facts
    ]
