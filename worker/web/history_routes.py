"""Handlers that read runs, changes and the audit."""

from datetime import timedelta
from typing import Any

import msgspec
import sqlalchemy as sa

from worker.events.changes import load_changes
from worker.events.event import Event
from worker.events.filter import EventFilter, parse_change_filter, parse_resource_filter
from worker.events.object_names import describe_object
from worker.events.start import FromAge, FromTime
from worker.store.service.audit import list_audit
from worker.store.state.connections import get_connection
from worker.store.state.metrics import set_statement_timeout
from worker.store.state.runs import get_run, list_latest_runs
from worker.web.call import Call
from worker.web.endpoint import Reply
from worker.web.history_answers import (
    AuditAnswer,
    AuditEntryAnswer,
    ChangeAnswer,
    ChangeCountAnswer,
    ChangeListAnswer,
    RunAnswer,
    RunListAnswer,
)
from worker.web.problem import name_mistakes
from worker.web.queries import AuditQuery, ChangesQuery, RunsQuery, get_given

_DEFAULT_AGE = FromAge(timedelta(days=1))


def get_runs(call: Call) -> Reply:
    """Return a page of a connection's runs. Raises NotFound."""
    query: RunsQuery = call.query
    connection_id = call.ids["connection_id"]
    with call.context.database.open_transaction() as db:
        _begin_reading(db, connection_id)
        rows = list_latest_runs(
            db,
            connection_id,
            query.limit + 1,
            state=get_given(query.state),
            before=get_given(query.after),
        )
    runs = [_build_run(row) for row in rows[: query.limit]]
    return Reply(RunListAnswer(runs, runs[-1].id if len(rows) > query.limit else None))


def get_one_run(call: Call) -> Reply:
    """Return a run. Raises NotFound."""
    with call.context.database.open_transaction() as db:
        set_statement_timeout(db)
        return Reply(_build_run(get_run(db, call.ids["run_id"])))


def get_changes(call: Call) -> Reply:
    """Return a page of a connection's changes. Raises NotFound, InvalidInput."""
    query: ChangesQuery = call.query
    connection_id = call.ids["connection_id"]
    since, until = get_given(query.since), get_given(query.until)
    only = EventFilter(
        resources=parse_resource_filter(query.resource),
        changes=parse_change_filter(query.change),
        with_initial=query.initial,
    )
    with call.context.database.open_transaction() as db:
        _begin_reading(db, connection_id)
        with name_mistakes("since" if until is None else "until"):
            found = load_changes(
                db,
                connection_id,
                _DEFAULT_AGE if since is None else FromTime(since),
                until=None if until is None else FromTime(until),
                only=only,
                limit=query.limit + 1,
                before=get_given(query.after),
            )
    shown = found.events[: query.limit]
    return Reply(
        ChangeListAnswer(
            since=found.since,
            until=found.until,
            counts=[ChangeCountAnswer(*count) for count in found.counts],
            changes=[_build_change(event, describe_object(event, found.names)) for event in shown],
            next=shown[-1].seq if len(found.events) > query.limit else None,
        )
    )


def get_audit(call: Call) -> Reply:
    query: AuditQuery = call.query
    with call.context.database.open_transaction() as db:
        set_statement_timeout(db)
        entries = list_audit(
            db,
            before=get_given(query.after),
            limit=query.limit + 1,
            connection_id=get_given(query.connection),
            actor=get_given(query.actor),
            actions=query.action,
        )
    shown = [
        msgspec.convert(entry, AuditEntryAnswer, from_attributes=True)
        for entry in entries[: query.limit]
    ]
    return Reply(AuditAnswer(shown, shown[-1].id if len(entries) > query.limit else None))


def _begin_reading(db: sa.Connection, connection_id: int) -> None:
    """Raise NotFound if there is no such connection."""
    set_statement_timeout(db)
    get_connection(db, connection_id)


def _build_run(row: Any) -> RunAnswer:
    return RunAnswer(**{name: row[name] for name in RunAnswer.__struct_fields__})


def _build_change(event: Event, name: str) -> ChangeAnswer:
    return ChangeAnswer(
        seq=event.seq,
        occurred_at=event.occurred_at,
        event_id=event.event_id,
        resource=event.resource,
        object_id=event.object_id,
        object=name,
        change=event.change,
        changed=event.changed,
        initial=event.initial,
    )
