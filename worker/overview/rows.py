"""What programs are shown of a connection: every fact, its conditions, and what it does now."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from models.connection import ConnectionStatus
from worker.conditions.condition import Condition
from worker.conditions.facts import ConnectionFacts
from worker.conditions.resource_age import ResourceAge
from worker.overview.fleet import Fleet, FleetConnection
from worker.store.service.workers import Worker


def build_connection_row(one: FleetConnection, now: datetime) -> dict[str, Any]:
    """Return a connection for programs."""
    facts = one.facts
    fresh_at = facts.fresh_at
    return {
        "id": facts.id,
        "provider_config_key": facts.integration,
        "nango_connection_id": facts.nango_id,
        "provider": facts.provider,
        "tenant_id": facts.tenant_id,
        "display_name": facts.name,
        "status": facts.status,
        "status_reason": facts.status_reason,
        "settings_problem": facts.settings_problem,
        "due_at": facts.due_at,
        "requested_at": facts.requested_at,
        "events": facts.events,
        "holder": facts.holder,
        "fresh_at": None if fresh_at is None else datetime.fromtimestamp(fresh_at, UTC),
        "age_seconds": one.age_seconds,
        "freshness": build_freshness(facts, now),
        "severity": one.severity,
        "needs_attention": one.needs_attention,
        "attention": list_sentences(one),
        "conditions": [condition.to_json() for condition in one.conditions],
        "held_up_by": None if one.cause is None else one.cause.code,
        "activity": msgspec.structs.asdict(one.activity),
        "last_outcome": _build_outcome(facts),
        **_build_run(facts),
        "graph_pauses": {
            service: round(seconds, 1) for service, seconds in facts.graph_pauses.items()
        },
    }


def build_freshness(facts: ConnectionFacts, now: datetime) -> dict[str, dict[str, Any]] | None:
    """Return the age of each resource, edges as old as their parent; None for a retired one."""
    if facts.status == ConnectionStatus.RETIRED:
        return None
    created = facts.created_at.timestamp()
    return {
        name: _build_age(age, created, now.timestamp()) for name, age in facts.list_ages().items()
    }


def _build_age(age: ResourceAge, created: float, now: float) -> dict[str, Any]:
    fresh_at = age.fresh_at
    return {
        "fresh_at": None if fresh_at is None else datetime.fromtimestamp(fresh_at, UTC),
        "age_seconds": None if fresh_at is None else now - fresh_at,
        "interval_seconds": age.interval_seconds,
        "is_late": age.compute_late_at(created) < now,
        "is_licensed": age.is_licensed,
        "is_on": age.is_on,
    }


def _build_outcome(facts: ConnectionFacts) -> dict[str, Any] | None:
    """Return the outcome of the last run that ended."""
    if facts.last_run_id is None:
        return None
    return {
        "run_id": facts.last_run_id,
        "state": facts.last_state,
        "finished_at": facts.last_finished_at,
        "error": facts.last_error,
    }


def _build_run(facts: ConnectionFacts) -> dict[str, Any]:
    """Return the latest run, whether it has ended or not."""
    if facts.running_id is not None:
        return {
            "run_id": facts.running_id,
            "run_state": "running",
            "run_trigger": facts.running_trigger,
            "run_started_at": facts.running_since,
            "run_finished_at": None,
            "run_error": None,
            "run_calls": facts.running_calls,
            "run_objects": facts.running_objects,
        }
    return {
        "run_id": facts.last_run_id,
        "run_state": facts.last_state,
        "run_trigger": facts.last_trigger,
        "run_started_at": facts.last_started_at,
        "run_finished_at": facts.last_finished_at,
        "run_error": facts.last_error,
        "run_calls": facts.last_calls,
        "run_objects": facts.last_objects,
    }


def list_sentences(one: FleetConnection) -> list[str]:
    """Return the sentence of each condition that needs attention."""
    return [
        condition.sentence for condition in one.conditions if condition.severity.needs_attention
    ]


def build_totals(fleet: Fleet) -> dict[str, Any]:
    """Return how many connections are fine, paused, waiting or need attention."""
    return {
        "connections": len(fleet.in_use),
        "fine": fleet.fine_count,
        "paused": fleet.paused_count,
        "waiting_for_service": fleet.waiting_count,
        "need_attention": fleet.attention_count,
        "statuses": dict(fleet.status_counts),
    }


def list_condition_rows(conditions: tuple[Condition, ...]) -> list[dict[str, object]]:
    """Return conditions for programs."""
    return [one.to_json() for one in conditions]


def build_worker_row(one: Worker) -> dict[str, Any]:
    """Return a worker for programs."""
    return {
        "name": one.name,
        "queues": one.queues,
        "processes": one.processes,
        "seen_seconds_ago": one.seen_seconds_ago,
        "holds": one.holds,
        "is_alive": one.is_alive,
    }
