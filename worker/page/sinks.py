"""The page of sinks: where change events go, how far behind each is, and what it may lose."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from models.sink import SinkKind, SinkStatus
from worker.conditions.condition import Condition
from worker.core.errors import InvalidInput
from worker.core.settings import Settings
from worker.core.time_text import render_count
from worker.delivery.health import compute_expiry
from worker.delivery.settings import parse_redis_stream_settings, parse_webhook_settings
from worker.delivery.store.admin import list_sinks
from worker.delivery.store.lag import find_oldest_undelivered
from worker.overview.fleet import Fleet
from worker.page.page import PageQuery, View, Visit
from worker.store.state.metrics import set_statement_timeout


class SinksQuery(PageQuery, frozen=True, kw_only=True):
    """Which sinks."""

    status: SinkStatus | None = None


class SinkView(msgspec.Struct, frozen=True):
    """A sink, without its secrets."""

    name: str
    kind: str
    place: str
    """The part of its address that may be shown."""
    status: str
    mark: str
    filters: list[str]
    """What it leaves out."""
    waiting: int
    connections_behind: int
    oldest_at: datetime | None
    """When its oldest undelivered event occurred."""
    dropped_at: datetime | None
    """When that event is dropped, delivered or not."""
    last_delivered_at: datetime | None
    served: bool
    failures: int
    retry_at: datetime | None
    refused: int
    snapshots: int
    snapshot_rows: int
    conditions: list[Condition]


def count_failing_sinks(fleet: Fleet) -> int:
    """Return how many sinks need attention."""
    subjects = {_name_subject(one.name) for one in fleet.service.sinks}
    return len(
        {
            one.subject
            for one in fleet.conditions
            if one.severity.needs_attention and one.subject in subjects
        }
    )


def show_sinks(visit: Visit) -> View:
    query: SinksQuery = visit.query
    fleet, settings = visit.load_fleet(), visit.context.settings
    rows, oldest = visit.context.reads.get("sinks", lambda: _read(visit))
    sinks = [_build_sink(row, oldest.get(row["id"]), fleet, settings) for row in rows]
    values = {
        "query": query,
        "sinks": [one for one in sinks if query.status in (None, one.status)],
        "counts": [
            (status.value, sum(one.status == status for one in sinks)) for status in SinkStatus
        ],
        "relay": [one for one in fleet.conditions if one.subject == "the relay"],
        "events_days": settings.events_days,
        "grace_days": settings.events_grace_days,
    }
    return View("sinks.html", "Sinks", values)


def _read(visit: Visit) -> tuple[Sequence[dict[str, Any]], Mapping[int, datetime]]:
    with visit.context.database.open_transaction() as db:
        set_statement_timeout(db)
        rows = list_sinks(db)
        return rows, find_oldest_undelivered(db) if rows else {}


def _build_sink(
    row: Mapping[str, Any], oldest_at: datetime | None, fleet: Fleet, settings: Settings
) -> SinkView:
    subject = _name_subject(row["name"])
    conditions = [one for one in fleet.conditions if one.subject == subject]
    return SinkView(
        name=row["name"],
        kind=row["kind"],
        place=describe_place(row["kind"], row["settings"]),
        status=row["status"],
        mark=_choose_mark(row["status"], conditions),
        filters=_list_filters(row),
        waiting=row["waiting"],
        connections_behind=row["connections_behind"],
        oldest_at=oldest_at,
        dropped_at=compute_expiry(oldest_at, row["status"], settings),
        last_delivered_at=row["last_delivered_at"],
        served=row["served"],
        failures=row["failures"],
        retry_at=row["retry_at"],
        refused=row["connections_refused"],
        snapshots=row["snapshots"],
        snapshot_rows=row["snapshot_rows"],
        conditions=conditions,
    )


def _name_subject(name: str) -> str:
    return f"sink {name}"


def _choose_mark(status: str, conditions: Sequence[Condition]) -> str:
    if conditions:
        return conditions[0].severity
    return "well" if status == SinkStatus.ACTIVE else "info"


def describe_place(kind: str, settings: Mapping[str, object]) -> str:
    """Return where a sink delivers to: a host or a stream, never a path, query or password."""
    try:
        if kind == SinkKind.WEBHOOK:
            return parse_webhook_settings(settings).host
        return f"stream {parse_redis_stream_settings(settings).stream}"
    except InvalidInput:
        return "its stored settings are invalid"


def _list_filters(row: Mapping[str, Any]) -> list[str]:
    found = []
    if row["resources"] is not None:
        found.append(f"only {', '.join(row['resources'])}")
    if row["changes"] is not None:
        found.append(f"only {', '.join(row['changes'])}")
    if row["connections"] is not None:
        found.append(f"only {render_count(len(row['connections']), 'connection')}")
    if not row["initial"]:
        found.append("without the events of first loads")
    return found
