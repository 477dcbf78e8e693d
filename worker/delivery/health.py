"""The health of sinks: lag, why one is stopped, and the events that it has lost or will lose."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from models.sink import SinkStatus
from worker.core.settings import Settings
from worker.delivery.store.admin import list_sinks
from worker.delivery.store.lag import find_oldest_undelivered
from worker.delivery.store.lost_events import LostEvents, list_lost
from worker.delivery.store.retention import RetentionOutcome, list_overdue_months
from worker.events.partitions import MonthPartition, read_database_clock


def describe_refusals(row: Mapping[str, Any]) -> str:
    """Return a sentence on refused events, or an empty string."""
    many = row.get("connections_refused", 0)
    if not many:
        return ""
    of = "1 connection" if many == 1 else f"{many:,} connections"
    rest = " (all that wait)" if many >= row["connections_behind"] else ""
    when = f"{row['refused_at']:%F %H:%M:%S} UTC"
    return f"refused are events of {of}{rest}, last at {when}: {row['refused_reason']}"


WARN_BEFORE: Final = timedelta(days=14)
"""How long before undelivered events are dropped the operator is warned."""
MAX_LISTED_CONNECTIONS: Final = 100
"""Most connections that are listed individually for lost events."""
_REPORTED_FIELDS: Final = (
    "name",
    "kind",
    "status",
    "status_reason",
    "waiting",
    "connections_behind",
    "connections_refused",
    "refused_at",
    "refused_reason",
    "snapshots",
    "served",
    "failures",
    "retry_at",
    "last_delivered_at",
)


@dataclass(frozen=True)
class SinkHealth:
    """Every sink's health as reported to programs, and the months past their retention."""

    sinks: Sequence[dict[str, Any]]
    overdue: Sequence[RetentionOutcome]


def load_sink_health(db: sa.Connection, settings: Settings) -> SinkHealth:
    """Return the health of all sinks, in a few short statements however many connections exist."""
    now = read_database_clock(db)
    rows = list_sinks(db)
    oldest = find_oldest_undelivered(db) if rows else {}
    memories = list_lost(db) if rows else []
    past = list_overdue_months(db, settings.events_days, settings.events_grace_days)
    sinks = []
    for row in rows:
        since = oldest.get(row["id"])
        lost = [_build_lost(one) for one in memories if one.sink_id == row["id"]]
        report = {name: row[name] for name in _REPORTED_FIELDS} | {
            "oldest_at": since,
            "lag_seconds": max(0.0, (now - since).total_seconds()) if since else 0.0,
            "kept": _build_kept(row, past),
            "lost": lost,
        }
        goes_at = compute_expiry(since, row["status"], settings)
        sinks.append({**report, "notes": list(list_notes(report, now, goes_at))})
    return SinkHealth(sinks, past)


def _build_lost(memory: LostEvents) -> dict[str, Any]:
    return {
        "month": memory.month,
        "dropped_at": memory.dropped_at,
        "events": memory.event_count,
        "connections": memory.connection_count,
        "sequences": [
            {"connection_id": part.connection_id, "first": part.first, "last": part.last}
            for part in memory.ranges[:MAX_LISTED_CONNECTIONS]
        ],
    }


def compute_expiry(since: datetime | None, status: str, settings: Settings) -> datetime | None:
    """Return when a sink's oldest undelivered event is dropped, delivered or not."""
    if since is None:
        return None
    grace = settings.events_grace_days if status == SinkStatus.ACTIVE else 0
    return MonthPartition.containing(since).compute_expiry(settings.events_days + grace)


def _build_kept(row: Mapping[str, Any], past: Sequence[RetentionOutcome]) -> dict[str, Any] | None:
    """Return the events past their retention that are kept for an active sink, if any."""
    missed = [(of, one) for of in past for one in of.undelivered if one.sink_id == row["id"]]
    if not missed or row["status"] != SinkStatus.ACTIVE:
        return None
    connections = {part.connection_id for _, one in missed for part in one.ranges}
    return {
        "events": sum(one.event_count for _, one in missed),
        "connections": len(connections),
        "since": min(one.since for _, one in missed),
        "dropped_at": min(of.expires_at for of, _ in missed),
    }


def list_notes(row: Mapping[str, Any], now: datetime, goes_at: datetime | None) -> Iterator[str]:
    """Yield why a sink is stopped and the consequences; nothing for a healthy one."""
    name, reason = row["name"], row["status_reason"]
    if row["status"] == SinkStatus.PAUSED:
        yield f"{reason or 'paused'}; 'sinks resume {name}' continues it"
    elif row["status"] == SinkStatus.DISABLED:
        yield f"{reason or 'disabled'}; 'sinks resume {name}' continues it"
    elif row["failures"]:
        yield f"{_render_failures(row, now)}: {reason}"
    if refusals := describe_refusals(row):
        yield f"{refusals}; 'sinks show {name}' lists them"
    if row["status"] == SinkStatus.ACTIVE and not row["served"] and not _is_backing_off(row, now):
        yield "no relay serves it: is 'tenant-mirror relay' running?"
    if goes_at is not None and goes_at - now <= WARN_BEFORE and not row["kept"]:
        yield f"undelivered events from {row['oldest_at']:%F} on are dropped on {goes_at:%F}"


def _render_failures(row: Mapping[str, Any], now: datetime) -> str:
    times = "failed once" if row["failures"] == 1 else f"failed {row['failures']} times in a row"
    if not _is_backing_off(row, now):
        return times
    return f"{times}, tried again at {row['retry_at']:%F %H:%M:%S} UTC"


def _is_backing_off(row: Mapping[str, Any], now: datetime) -> bool:
    return row["retry_at"] is not None and row["retry_at"] > now
