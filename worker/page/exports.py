"""The lists of connections, runs and the audit as CSV, filtered as their pages are."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Final, TypeVar

import sqlalchemy as sa

from worker.operations.outcome import name_state
from worker.operations.parameter_text import describe_parameters
from worker.overview.fleet import Fleet, FleetConnection
from worker.overview.listing import list_connections
from worker.page.audit import AuditPageQuery, build_audit_filter
from worker.page.csv_text import CSV_TYPE, MAX_ROWS, ROWS_A_PART, Row, render_csv, split
from worker.page.fleet import FleetQuery, build_row, build_wanted
from worker.page.page import Visit
from worker.page.runs import FleetRunsQuery, build_run_filter
from worker.page.streamed_file import StreamedFile
from worker.store.service.audit import AuditEntry, list_matching_audit
from worker.store.state.fleet_runs import FleetRun, list_fleet_runs
from worker.store.state.metrics import set_statement_timeout

_CONNECTION_HEADS: Final = (
    "id",
    "organization",
    "integration",
    "nango_id",
    "tenant_id",
    "domains",
    "status",
    "severity",
    "conditions",
    "waits_for",
    "oldest_data_at",
    "oldest_resource",
    "is_late",
    "activity",
    "last_run_id",
    "last_run_state",
    "last_run_at",
    "objects_read",
    "next_move_at",
    "why",
    "remedy",
)
_RUN_HEADS: Final = (
    "run_id",
    "connection_id",
    "organization",
    "trigger",
    "state",
    "started_at",
    "finished_at",
    "calls",
    "objects",
    "created",
    "updated",
    "deleted",
    "restored",
    "rejected",
    "why",
)
_AUDIT_HEADS: Final = (
    "entry_id",
    "occurred_at",
    "actor",
    "via",
    "action",
    "outcome",
    "connection_id",
    "organization",
    "subject",
    "parameters",
    "detail",
    "operation_id",
    "request_id",
)

Stored = TypeVar("Stored", FleetRun, AuditEntry)


def export_connections(visit: Visit) -> StreamedFile:
    """Return the connections that match, in the order of the page."""
    query: FleetQuery = visit.query
    fleet = visit.load_fleet()
    page = list_connections(fleet, build_wanted(query), sort=query.sort, limit=None)
    chunks = split(page.rows[:MAX_ROWS], lambda one: _build_connection(one, fleet.now))
    return _build_file(visit, "connections", _CONNECTION_HEADS, chunks)


def export_runs(visit: Visit) -> StreamedFile:
    """Return the runs that match, newest first."""
    query: FleetRunsQuery = visit.query
    fleet = visit.load_fleet()
    wanted = build_run_filter(fleet, query)

    def read(db: sa.Connection, before: int | None) -> list[FleetRun]:
        return list_fleet_runs(db, wanted, before=before, limit=ROWS_A_PART)

    chunks = _read_chunks(visit, read, lambda one: _build_run(one, fleet))
    return _build_file(visit, "runs", _RUN_HEADS, chunks)


def export_audit(visit: Visit) -> StreamedFile:
    """Return the entries of the audit that match, newest first."""
    query: AuditPageQuery = visit.query
    fleet = visit.load_fleet()
    wanted = build_audit_filter(fleet, query)

    def read(db: sa.Connection, before: int | None) -> list[AuditEntry]:
        return list_matching_audit(db, wanted, before=before, limit=ROWS_A_PART)

    chunks = _read_chunks(visit, read, lambda one: _build_entry(one, fleet))
    return _build_file(visit, "audit", _AUDIT_HEADS, chunks)


def _build_file(
    visit: Visit, name: str, heads: Sequence[str], chunks: Iterator[Sequence[Row]]
) -> StreamedFile:
    parts = render_csv(heads, chunks)
    return StreamedFile(parts, f"{name}.csv", CSV_TYPE, visit.context.threads)


def _read_chunks(
    visit: Visit,
    read: Callable[[sa.Connection, int | None], list[Stored]],
    build: Callable[[Stored], Row],
) -> Iterator[Sequence[Row]]:
    """Yield rows as they are read, each chunk in a transaction of its own.

    Each begins behind the last id of the one before, so that no row is lost or doubled.
    """
    before = None
    while True:
        with visit.context.database.open_transaction() as db:
            set_statement_timeout(db)
            found = read(db, before)
        yield [build(one) for one in found]
        if len(found) < ROWS_A_PART:
            return
        before = found[-1].id


def _build_connection(one: FleetConnection, now: datetime) -> Row:
    row, facts = build_row(one, now), one.facts
    return (
        row.id,
        row.name,
        facts.integration,
        facts.nango_id,
        facts.tenant_id,
        facts.domains,
        row.status,
        one.severity or "well",
        " ".join(dict.fromkeys(it.code for it in one.conditions)),
        row.waits_for,
        row.fresh_at,
        row.oldest,
        row.is_late,
        row.activity,
        row.run_id,
        row.run_state,
        row.run_at,
        row.rows,
        row.next_at,
        row.why,
        one.conditions[0].remedy if one.conditions else None,
    )


def _build_run(run: FleetRun, fleet: Fleet) -> Row:
    return (
        run.id,
        run.connection_id,
        _find_organization(fleet, run.connection_id),
        run.trigger,
        run.state,
        run.started_at,
        run.finished_at,
        run.calls,
        run.objects,
        run.created,
        run.updated,
        run.deleted,
        run.restored,
        run.rejected,
        run.error,
    )


def _build_entry(entry: AuditEntry, fleet: Fleet) -> Row:
    return (
        entry.id,
        entry.occurred_at,
        entry.actor,
        entry.via,
        entry.action,
        name_state(entry.action, entry.outcome.value),
        entry.connection_id,
        _find_organization(fleet, entry.connection_id),
        entry.subject,
        describe_parameters(entry.parameters),
        entry.detail,
        entry.operation_id,
        entry.request_id,
    )


def _find_organization(fleet: Fleet, connection_id: int | None) -> str | None:
    known = None if connection_id is None else fleet.by_id.get(connection_id)
    return None if known is None else known.facts.name
