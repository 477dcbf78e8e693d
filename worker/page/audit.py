"""The page of the audit: who did what, when, through which face, and what became of it."""

from datetime import datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from models.audit import AuditAction, AuditOutcome
from worker.operations.outcome import name_state
from worker.operations.parameter_text import describe_parameters
from worker.overview.fleet import Fleet
from worker.page.page import View, Visit
from worker.page.spans import PastQuery, begin_day, choose_ids, end_day, render_most
from worker.store.service.audit import AuditEntry, AuditFilter, count_audit, list_matching_audit
from worker.store.state.metrics import set_statement_timeout

_MOST: Final = 1000
"""Entries up to which they are counted."""
_MARKS: Final = {
    AuditOutcome.ACCEPTED: "info",
    AuditOutcome.DONE: "well",
    AuditOutcome.REFUSED: "warning",
    AuditOutcome.FAILED: "error",
}


class AuditPageQuery(PastQuery, frozen=True, kw_only=True):
    """Which entries, newest first."""

    actor: Annotated[str, Meta(max_length=100)] = ""
    action: AuditAction | None = None


class AuditRow(msgspec.Struct, frozen=True):
    """An entry of the audit."""

    id: int
    occurred_at: datetime
    actor: str
    via: str
    action: str
    outcome: str
    mark: str
    connection_id: int | None
    customer: str | None
    subject: str | None
    parameters: str
    detail: str | None
    operation_id: int | None


def show_audit(visit: Visit) -> View:
    query: AuditPageQuery = visit.query
    fleet = visit.load_fleet()
    wanted = build_audit_filter(fleet, query)
    entries, number = visit.context.reads.get(
        ("audit", wanted, query.after, query.limit), lambda: _read(visit, wanted)
    )
    shown = entries[: query.limit]
    chosen = None if query.connection is None else fleet.by_id.get(query.connection)
    values = {
        "query": query,
        "customer": None if chosen is None else chosen.facts.title,
        "actions": [one.value for one in AuditAction],
        "rows": [_build_row(one, fleet) for one in shown],
        "total": render_most(number, _MOST),
        "is_filtered": wanted != AuditFilter(),
        "next_key": shown[-1].id if len(entries) > query.limit else None,
    }
    return View("audit.html", "Audit", values)


def build_audit_filter(fleet: Fleet, query: AuditPageQuery) -> AuditFilter:
    """Return which entries a query asks for."""
    return AuditFilter(
        choose_ids(fleet, query),
        query.actor.strip() or None,
        () if query.action is None else (query.action.value,),
        begin_day(query.since),
        end_day(query.until),
    )


def _read(visit: Visit, wanted: AuditFilter) -> tuple[list[AuditEntry], int]:
    query: AuditPageQuery = visit.query
    with visit.context.database.open_transaction() as db:
        set_statement_timeout(db)
        found = list_matching_audit(db, wanted, before=query.after, limit=query.limit + 1)
        return found, count_audit(db, wanted, _MOST + 1)


def _build_row(entry: AuditEntry, fleet: Fleet) -> AuditRow:
    known = None if entry.connection_id is None else fleet.by_id.get(entry.connection_id)
    outcome = name_state(entry.action, entry.outcome.value)
    return AuditRow(
        id=entry.id,
        occurred_at=entry.occurred_at,
        actor=entry.actor,
        via=entry.via.value,
        action=entry.action,
        outcome=outcome,
        mark=_MARKS[entry.outcome] if outcome == entry.outcome else "info",
        connection_id=None if known is None else known.id,
        customer=None if known is None else known.facts.title,
        subject=entry.subject,
        parameters=describe_parameters(entry.parameters),
        detail=entry.detail,
        operation_id=entry.operation_id,
    )
