"""The page of one connection: what is wrong, what it does, what it read and what changed."""

from datetime import datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from models.connection import ConnectionStatus
from worker.overview.connection_look import ConnectionLook
from worker.overview.fleet import Fleet, FleetConnection
from worker.overview.permissions import list_permission_requests, write_whole_request
from worker.page.connection_charts import build_charts
from worker.page.connection_operations import build_operation
from worker.page.connection_rows import (
    build_run,
    count_changes,
    list_change_kinds,
    list_changes,
    list_resources,
    list_walks,
)
from worker.page.fleet import find_holding_code
from worker.page.next_move import hold_next_move
from worker.page.page import PageQuery, View, Visit
from worker.page.page_actions import list_connection_actions
from worker.store.service.audit import AuditEntry
from worker.store.state.connections import SYNCED_STATUSES
from worker.web.fleet_routes import find_in_fleet

_MAX_ID: Final = 2**63 - 1


class ConnectionQuery(PageQuery, frozen=True, kw_only=True):
    """What was done just now, whose outcome is shown on top."""

    operation: Annotated[int, Meta(ge=0, le=_MAX_ID)] = 0
    discovery: bool = False
    """Whether Nango's list was asked for just now."""


class PauseNote(msgspec.Struct, frozen=True):
    """An operator's pause."""

    by: str | None
    at: datetime
    reason: str | None
    until: datetime | None


class RecentAction(msgspec.Struct, frozen=True):
    """Who did what."""

    at: datetime
    actor: str
    via: str
    action: str
    outcome: str
    detail: str | None
    operation_id: int | None


def show_connection(visit: Visit) -> View:
    """Return the page of a connection. Raises NotFound."""
    fleet, one = find_connection(visit)
    look = visit.context.looks.get(one.facts)
    return View("connection.html", one.facts.title, _build_values(visit, fleet, one, look))


def find_connection(visit: Visit) -> tuple[Fleet, FleetConnection]:
    """Return the fleet and the connection that a path names. Raises NotFound."""
    fleet = visit.load_fleet()
    return fleet, find_in_fleet(fleet, visit.ids["connection_id"])


def describe_identity(one: FleetConnection) -> dict[str, object]:
    """Return what every page about a connection has in its title."""
    facts = one.facts
    return {
        "id": facts.id,
        "name": facts.name,
        "label": facts.label,
        "status": facts.status,
        "is_synced": facts.status in SYNCED_STATUSES,
        "is_retired": facts.status == ConnectionStatus.RETIRED,
    }


def build_pause(one: FleetConnection, now: datetime) -> PauseNote | None:
    """Return the operator's pause; None if there is none."""
    facts = one.facts
    if facts.paused_at is None or not facts.is_paused(now):
        return None
    return PauseNote(facts.paused_by, facts.paused_at, facts.pause_reason, facts.paused_until)


def _build_values(
    visit: Visit, fleet: Fleet, one: FleetConnection, look: ConnectionLook
) -> dict[str, object]:
    facts, now, history = one.facts, fleet.now, look.history
    resources = list_resources(facts, look.streams, history.rows, now)
    operations = [build_operation(it, one, fleet.service) for it in look.operations]
    wanted, permissions = visit.query.operation, list_permission_requests(one)
    return {
        "connection": describe_identity(one),
        "facts": {
            "tenant_id": facts.tenant_id,
            "domains": (facts.domains or "").split(),
            "nango_id": facts.nango_id,
            "integration": facts.integration,
            "created_at": facts.created_at,
            "events": facts.events,
        },
        "severity": one.severity,
        "waits_for": find_holding_code(one),
        "conditions": one.conditions,
        "actions": [list_connection_actions(fleet, one, it) for it in one.conditions],
        "cause": None if one.cause is None else {"code": one.cause.code, "wait": one.cause.wait},
        "activity": hold_next_move(one.activity),
        "pause": build_pause(one, now),
        "operations": [it for it in operations if it.is_open or it.id == wanted],
        "discovery": visit.query.discovery,
        "is_ticking": fleet.service.is_dispatcher_alive,
        "resources": resources,
        "held": [it for it in resources if it.held],
        "walks": list_walks(look.streams, now, is_running=facts.holder is not None),
        "permissions": permissions,
        "whole_request": write_whole_request(one, permissions),
        "runs": [build_run(it) for it in look.runs],
        "kinds": list_change_kinds(history.changes),
        "counts": count_changes(history.changes),
        "changes": list_changes(history.changes),
        "is_cut": history.changes.is_cut,
        "charts_data": build_charts(facts, history, now),
        "audit": [_build_entry(it) for it in look.audit],
    }


def _build_entry(entry: AuditEntry) -> RecentAction:
    return RecentAction(
        at=entry.occurred_at,
        actor=entry.actor,
        via=entry.via.value,
        action=entry.action,
        outcome=entry.outcome.value,
        detail=entry.detail,
        operation_id=entry.operation_id,
    )
