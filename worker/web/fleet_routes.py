"""Handlers that read the state of the fleet."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from models.connection import ConnectionStatus
from models.run import RunState
from worker.conditions.condition import Code, Condition, Severity
from worker.conditions.facts import ConnectionFacts, ServiceFacts
from worker.core.errors import NotFound
from worker.overview.fleet import Fleet, FleetConnection
from worker.overview.listing import ConnectionFilter, list_connections
from worker.store.state.metrics import set_statement_timeout
from worker.store.state.open_operations import list_open_operations
from worker.web.answers import (
    BudgetAnswer,
    ConditionAnswer,
    ConnectionAnswer,
    ConnectionListAnswer,
    FleetAnswer,
    FreshnessAnswer,
    HealthAnswer,
    OutcomeAnswer,
    PauseAnswer,
    Word,
    WorkerAnswer,
)
from worker.web.call import Call
from worker.web.endpoint import Reply
from worker.web.problem import name_mistakes
from worker.web.queries import ConnectionsQuery

_PARTS: Final = {
    "servers": (Code.SERVER_UNUSABLE,),
    "dispatcher": (Code.DISPATCHER_SILENT,),
    "workers": (Code.WORKERS_SILENT,),
    "relay": (Code.RELAY_MISSING,),
    "nango": (Code.HALTED, Code.NANGO_SILENT),
    "budget": (Code.WAITING_FOR_BUDGET,),
}
"""Parts of the service, and the conditions that mean that a part does not work."""


def get_fleet_health(call: Call) -> Reply:
    """Return whether the service works; a sink or a customer that fails is not its fault."""
    fleet = call.context.fleet.get()
    failing = {
        one.code for one in fleet.conditions if one.severity in (Severity.ERROR, Severity.CRITICAL)
    }
    parts = {
        name: Word.WELL if failing.isdisjoint(codes) else Word.UNWELL
        for name, codes in _PARTS.items()
    }
    is_well = Word.UNWELL not in parts.values()
    details = list(map(build_condition, fleet.conditions)) if call.sees_details else None
    answer = HealthAnswer(Word.WELL if is_well else Word.UNWELL, parts, details)
    return Reply(answer, status=200 if is_well else 503)


def get_fleet(call: Call) -> Reply:
    fleet = call.context.fleet.get_readable()
    statuses = {one: fleet.status_counts.get(one, 0) for one in ConnectionStatus}
    return Reply(
        FleetAnswer(
            as_of=fleet.now,
            connections=len(fleet.connections),
            attention=fleet.attention_count,
            statuses=statuses,
            conditions=list(map(build_condition, fleet.conditions)),
            affected=dict(fleet.affected),
            budget=_build_budget(fleet.service),
            workers=[
                WorkerAnswer(one.name, one.queues, one.seen_seconds_ago, one.is_alive)
                for one in fleet.service.workers
            ],
        )
    )


def get_connections(call: Call) -> Reply:
    fleet = call.context.fleet.get_readable()
    query: ConnectionsQuery = call.query
    with name_mistakes("after"):
        page = list_connections(
            fleet,
            build_filter(query.condition, query.status, query.text, is_attention=query.attention),
            sort=query.sort,
            after=query.after or None,
            limit=query.limit,
        )
    return Reply(
        ConnectionListAnswer(
            as_of=fleet.now,
            connections=[build_connection(one, fleet) for one in page.rows],
            total=page.total,
            attention=page.attention,
            statuses={ConnectionStatus(name): n for name, n in page.statuses.items()},
            conditions=dict(page.conditions),
            next=page.next_key,
        )
    )


def get_connection(call: Call) -> Reply:
    fleet = call.context.fleet.get_readable()
    found = find_in_fleet(fleet, call.ids["connection_id"])
    with call.context.database.open_transaction() as db:
        set_statement_timeout(db)
        open_operations = list_open_operations(db, found.id)
    return Reply(build_connection(found, fleet, open_operations))


def find_in_fleet(fleet: Fleet, connection_id: int) -> FleetConnection:
    """Return a connection. Raises NotFound."""
    found = fleet.by_id.get(connection_id)
    if found is None:
        raise NotFound(f"there is no connection {connection_id}")
    return found


def build_filter(
    conditions: Iterable[Code],
    statuses: Iterable[ConnectionStatus],
    text: str,
    *,
    is_attention: bool,
    ids: Iterable[int] | None = None,
) -> ConnectionFilter:
    return ConnectionFilter(
        conditions=frozenset(conditions),
        statuses=frozenset(statuses),
        text=text,
        attention=is_attention,
        ids=None if ids is None else frozenset(ids),
    )


def build_condition(one: Condition) -> ConditionAnswer:
    return ConditionAnswer(
        code=one.code,
        severity=one.severity,
        subject=one.subject,
        sentence=one.sentence,
        remedy=one.remedy,
        anchor=one.anchor,
        since=one.since,
        connection_id=one.connection_id,
        resource=one.resource,
        affected=one.affected,
        customer_text=one.customer_text,
    )


def build_connection(
    one: FleetConnection, fleet: Fleet, open_operations: list[int] | None = None
) -> ConnectionAnswer:
    facts, now = one.facts, fleet.now
    return ConnectionAnswer(
        id=facts.id,
        name=facts.name,
        integration=facts.integration,
        nango_id=facts.nango_id,
        tenant_id=facts.tenant_id,
        status=ConnectionStatus(facts.status),
        status_reason=facts.status_reason,
        created_at=facts.created_at,
        severity=one.severity,
        needs_attention=one.needs_attention,
        conditions=list(map(build_condition, one.conditions)),
        cause=one.cause.code if one.cause else None,
        activity=one.activity,
        outcome=_build_outcome(facts),
        pause=_build_pause(facts, now),
        age_seconds=one.age_seconds,
        freshness=_list_freshness(facts, now),
        open_operations=open_operations,
        due_at=facts.due_at,
        events=facts.events,
    )


def _build_outcome(facts: ConnectionFacts) -> OutcomeAnswer | None:
    if facts.last_run_id is None or facts.last_state is None:
        return None
    return OutcomeAnswer(
        run_id=facts.last_run_id,
        state=RunState(facts.last_state),
        started_at=facts.last_started_at,
        finished_at=facts.last_finished_at,
        error=facts.last_error,
    )


def _build_pause(facts: ConnectionFacts, now: datetime) -> PauseAnswer | None:
    if facts.paused_at is None or not facts.is_paused(now):
        return None
    return PauseAnswer(facts.paused_at, facts.paused_by, facts.pause_reason, facts.paused_until)


def _list_freshness(facts: ConnectionFacts, now: datetime) -> list[FreshnessAnswer]:
    """Return the age of each resource; one that is read with another is as old as that."""
    created_at, moment = facts.created_at.timestamp(), now.timestamp()
    return [
        FreshnessAnswer(
            resource=name,
            fresh_at=None if one.fresh_at is None else datetime.fromtimestamp(one.fresh_at, UTC),
            interval_seconds=one.interval_seconds,
            is_late=facts.is_synced and moment > one.compute_late_at(created_at),
            is_licensed=one.is_licensed,
            is_on=one.is_on,
        )
        for name, one in facts.list_ages().items()
    ]


def _build_budget(service: ServiceFacts) -> BudgetAnswer | None:
    budget = service.shared.budget
    if budget is None:
        return None
    return BudgetAnswer(
        budget.limit, budget.left, budget.resets_in_seconds, budget.paused_for_seconds
    )
