"""The page of the fleet: what is wrong, and every connection with what it does and why."""

from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from models.connection import ConnectionStatus
from models.stream import compute_late_after
from worker.conditions.condition import Code, Severity
from worker.conditions.facts import ConnectionFacts
from worker.conditions.resource_age import ResourceAge
from worker.overview.fleet import Fleet, FleetConnection
from worker.overview.listing import ConnectionFilter, Sort, count_codes, list_connections
from worker.page.next_move import hold_next_move
from worker.page.page import PageQuery, View, Visit
from worker.page.page_actions import list_service_actions
from worker.web.problem import name_mistakes
from worker.web.queries import MAX_ROWS, SearchText

ROWS: Final = 50
_HEADS: Final = (
    ("Connection", Sort.NAME),
    ("Condition", Sort.SEVERITY),
    ("Data age", Sort.AGE),
    ("Activity", None),
    ("Last run", Sort.RUN),
    ("Objects read", Sort.ROWS),
    ("Next move", Sort.NEXT),
    ("Why", None),
)
"""Titles of the columns, and the order that each leads to."""


class FleetQuery(PageQuery, frozen=True, kw_only=True):
    """Which connections, in which order."""

    condition: Annotated[tuple[Code, ...], Meta(max_length=25)] = ()
    status: Annotated[tuple[ConnectionStatus, ...], Meta(max_length=5)] = ()
    text: SearchText = ""
    attention: bool = False
    sort: Sort = Sort.SEVERITY
    after: Annotated[str, Meta(max_length=3000)] = ""
    limit: Annotated[int, Meta(ge=1, le=MAX_ROWS)] = ROWS


class CodeCount(msgspec.Struct, frozen=True):
    """How many connections have a condition."""

    code: Code
    severity: Severity
    """The highest that it has on any of them."""
    count: int
    is_chosen: bool


class FleetRow(msgspec.Struct, frozen=True):
    """A connection in the table."""

    id: int
    name: str | None
    label: str
    status: str
    code: Code | None
    """Of its most severe condition."""
    severity: Severity | None
    waits_for: Code | None
    """The condition of the service that holds it up, unless its own needs attention."""
    more: int
    """Further conditions."""
    fresh_at: datetime | None
    oldest: str | None
    """The resource whose age that is."""
    limit_seconds: float | None
    """The age from which that resource is late."""
    is_late: bool
    """Whether any of its resources is."""
    is_synced: bool
    activity: str
    run_id: int | None
    run_state: str | None
    run_at: datetime | None
    rows: int | None
    """Objects that the last run read; None if there were none, which tells nothing of its rows."""
    next_at: datetime | None
    why: str


def count_attention(fleet: Fleet) -> int:
    """Return how many connections, and conditions of the service, need attention."""
    return fleet.attention_count + _count_service_attention(fleet)


def _count_service_attention(fleet: Fleet) -> int:
    return sum(one.severity.needs_attention for one in fleet.conditions)


def show_fleet(visit: Visit) -> View:
    query: FleetQuery = visit.query
    fleet = visit.load_fleet()
    wanted = build_wanted(query)
    with name_mistakes("after"):
        page = list_connections(
            fleet, wanted, sort=query.sort, after=query.after or None, limit=query.limit
        )
    values = {
        "query": query,
        "conditions": fleet.conditions,
        "actions": [list_service_actions(one) for one in fleet.conditions],
        "codes": _list_codes(fleet, query, wanted),
        "rows": [build_row(one, fleet.now) for one in page.rows],
        "heads": [(title, sort) for title, sort in _HEADS],
        "total": page.total,
        "attention": fleet.attention_count,
        "service_attention": _count_service_attention(fleet),
        "connections": len(fleet.in_use),
        "fine": fleet.fine_count,
        "waiting": fleet.waiting_count,
        "paused": fleet.paused_count,
        "statuses": list(ConnectionStatus),
        "is_filtered": wanted != ConnectionFilter(),
        "next_key": page.next_key,
    }
    return View("fleet.html", "Fleet", values)


def build_wanted(query: FleetQuery) -> ConnectionFilter:
    return ConnectionFilter(
        conditions=frozenset(query.condition),
        statuses=frozenset(query.status),
        text=query.text,
        attention=query.attention,
    )


def build_row(one: FleetConnection, now: datetime) -> FleetRow:
    """Return a connection as the table shows it."""
    facts, activity = one.facts, hold_next_move(one.activity)
    first = one.conditions[0] if one.conditions else None
    waits_for = find_holding_code(one)
    others = len(one.conditions) if waits_for else max(0, len(one.conditions) - 1)
    oldest = find_oldest(facts)
    fresh_at = None if oldest is None else oldest.fresh_at
    return FleetRow(
        id=facts.id,
        name=facts.name,
        label=facts.label,
        status=facts.status,
        code=first.code if first else None,
        severity=first.severity if first else None,
        waits_for=waits_for,
        more=others,
        fresh_at=None if fresh_at is None else datetime.fromtimestamp(fresh_at, UTC),
        oldest=None if oldest is None else oldest.resource,
        limit_seconds=None if oldest is None else compute_late_after(oldest.interval_seconds),
        is_late=facts.is_synced and facts.late_at < now.timestamp(),
        is_synced=facts.is_synced,
        activity=activity.state.value,
        run_id=facts.last_run_id,
        run_state=facts.last_state,
        run_at=facts.last_finished_at or facts.last_started_at,
        rows=facts.last_objects or None,
        next_at=activity.next_at,
        why=first.sentence if first and first.severity.needs_attention else activity.sentence,
    )


def find_holding_code(one: FleetConnection) -> Code | None:
    """Return the condition of the service that a connection waits for, and is counted under."""
    return None if one.cause is None or one.needs_attention else one.cause.code


def find_oldest(facts: ConnectionFacts) -> ResourceAge | None:
    """Return the resource whose data is oldest; None if one was never loaded."""
    if facts.fresh_at is None:
        return None
    read = [one for one in facts.freshness if one.is_read and not one.is_new]
    return min(read, key=lambda one: one.fresh_at or 0.0)


def _list_codes(fleet: Fleet, query: FleetQuery, wanted: ConnectionFilter) -> list[CodeCount]:
    """Return the counts by condition, the most severe first. Those of the service stand apart."""
    counts = count_codes(fleet, wanted)
    worst = _find_worst(fleet)
    shown = {*counts, *query.condition}
    found = [
        CodeCount(
            code, worst.get(code, Severity.INFO), counts.get(code, 0), code in wanted.conditions
        )
        for code in shown
    ]
    return sorted(found, key=lambda one: (-one.severity.rank, -one.count, one.code))


def _find_worst(fleet: Fleet) -> dict[Code, Severity]:
    worst = {one.code: one.severity for one in fleet.conditions}
    for connection in fleet.in_use:
        for one in connection.conditions:
            known = worst.get(one.code)
            if known is None or one.severity.rank > known.rank:
                worst[one.code] = one.severity
    return worst
