"""How the sinks are: how far behind, why one stands still, and what it has lost or will lose."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection

from models.sink import SinkStatus
from worker.core.settings import Settings
from worker.events.partitions import Month, moment
from worker.events.retention import Outcome, overdue
from worker.ops.cli.sink_lines import refused
from worker.store.dropped import Memory, recalled
from worker.store.sink_admin import sinks_overview
from worker.store.sink_lag import oldest_undelivered

WARNING: Final = timedelta(days=14)
"""How long before events are dropped that a sink lacks an operator is told."""
NAMED: Final = 100
"""Connections that are named one by one where events were lost."""
_TOLD: Final = (
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
class Health:
    """Every sink, as programs are told of it, and the months that are past their keep."""

    sinks: Sequence[dict[str, Any]]
    overdue: Sequence[Outcome]

    def alarms(self) -> Iterator[str]:
        """What people must not overlook, a line each."""
        for row in self.sinks:
            if row["kept"]:
                yield _kept_line(row["name"], row["kept"])
            for lost in row["lost"]:
                yield _lost_line(row["name"], lost)


def look(connection: Connection, settings: Settings) -> Health:
    """How all sinks are; a few short statements, whatever the number of connections."""
    now = moment(connection)
    rows = sinks_overview(connection)
    oldest = oldest_undelivered(connection) if rows else {}
    memories = recalled(connection) if rows else []
    past = overdue(connection, settings.events_days, settings.events_grace_days)
    sinks = []
    for row in rows:
        since = oldest.get(row["id"])
        lost = [_lost(one) for one in memories if one.sink_id == row["id"]]
        told = {name: row[name] for name in _TOLD} | {
            "oldest_at": since,
            "lag_seconds": max(0.0, (now - since).total_seconds()) if since else 0.0,
            "kept": _kept(row, past),
            "lost": lost,
        }
        goes_at = _goes_at(since, row["status"], settings)
        sinks.append({**told, "notes": list(notes(told, now, goes_at))})
    return Health(sinks, past)


def _lost(memory: Memory) -> dict[str, Any]:
    return {
        "month": memory.month,
        "dropped_at": memory.dropped_at,
        "events": memory.events,
        "connections": memory.connections,
        "sequences": [
            {"connection_id": part.connection_id, "first": part.first, "last": part.last}
            for part in memory.parts[:NAMED]
        ],
    }


def _goes_at(since: datetime | None, status: str, settings: Settings) -> datetime | None:
    """When the oldest event that a sink lacks is dropped, whether the sink has had it or not."""
    if since is None:
        return None
    grace = settings.events_grace_days if status == SinkStatus.ACTIVE else 0
    return Month.at(since).goes_at(settings.events_days + grace)


def _kept(row: Mapping[str, Any], past: Sequence[Outcome]) -> dict[str, Any] | None:
    """What is past its keep and still there for an active sink."""
    missed = [(of, one) for of in past for one in of.missed if one.sink_id == row["id"]]
    if not missed or row["status"] != SinkStatus.ACTIVE:
        return None
    connections = {part.connection_id for _, one in missed for part in one.parts}
    return {
        "events": sum(one.events for _, one in missed),
        "connections": len(connections),
        "since": min(one.since for _, one in missed),
        "dropped_at": min(of.goes_at for of, _ in missed),
    }


def notes(row: Mapping[str, Any], now: datetime, goes_at: datetime | None) -> Iterator[str]:
    """Why a sink stands still, and what comes of it; nothing of one that is well."""
    name, reason = row["name"], row["status_reason"]
    if row["status"] == SinkStatus.PAUSED:
        yield f"{reason or 'paused'}; 'sinks resume {name}' goes on"
    elif row["status"] == SinkStatus.DISABLED:
        yield f"{reason or 'switched off'}; 'sinks resume {name}' goes on"
    elif row["failures"]:
        yield f"{_failures(row, now)}: {reason}"
    if told := refused(row):
        yield f"{told}; 'sinks show {name}' names them"
    if row["status"] == SinkStatus.ACTIVE and not row["served"] and not _rests(row, now):
        yield "nobody serves it: is 'tenant-mirror relay' running?"
    if goes_at is not None and goes_at - now <= WARNING and not row["kept"]:
        yield f"events that it lacks, from {row['oldest_at']:%F} on, are dropped on {goes_at:%F}"


def _failures(row: Mapping[str, Any], now: datetime) -> str:
    times = "failed once" if row["failures"] == 1 else f"failed {row['failures']} times in a row"
    if not _rests(row, now):
        return times
    return f"{times}, tried again at {row['retry_at']:%F %H:%M:%S} UTC"


def _rests(row: Mapping[str, Any], now: datetime) -> bool:
    return row["retry_at"] is not None and row["retry_at"] > now


def _kept_line(name: str, kept: Mapping[str, Any]) -> str:
    return (
        f"EVENTS KEPT for sink '{name}': {_amount(kept)}, from {kept['since']:%F} on, are past "
        f"their days and not delivered; they are dropped on {kept['dropped_at']:%F}. Mend the "
        f"receiver, or say 'tenant-mirror sinks pause {name}' or 'sinks remove {name}'"
    )


def _lost_line(name: str, lost: Mapping[str, Any]) -> str:
    return (
        f"EVENTS LOST to sink '{name}': {_amount(lost)}, of {lost['month']}{_numbers(lost)}, were "
        f"dropped on {lost['dropped_at']:%F} before it had them; "
        f"'tenant-mirror events replay {name} --from snapshot' brings it up to date"
    )


def _amount(about: Mapping[str, Any]) -> str:
    events, connections = about["events"], about["connections"]
    of = "1 connection" if connections == 1 else f"{connections:,} connections"
    return f"{events:,} {'event' if events == 1 else 'events'} of {of}"


def _numbers(lost: Mapping[str, Any]) -> str:
    if lost["connections"] != 1:
        return ""
    (one,) = lost["sequences"]
    return f" (connection {one['connection_id']}, {one['first']} to {one['last']})"
