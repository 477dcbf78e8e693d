"""The rows of the page of a connection: resources, walks under way, runs, changes. Pure."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from models.resources import RESOURCES
from models.run import RunState, RunTrigger
from models.stream import NOT_LICENSED_PHASE, OFF_PHASE, Phase, compute_late_after
from worker.conditions.facts import ConnectionFacts
from worker.events.object_names import describe_object
from worker.events.recent_changes import RecentChanges
from worker.store.mirror.count_live import MOST_COUNTED

_PHASES: Final[Mapping[str, str]] = {
    Phase.READY: "at rest",
    Phase.LISTING: "reading all of it",
    Phase.SWEEPING: "comparing what is missing",
    Phase.DELTA: "following changes",
    Phase.REFUSED: "refused",
    Phase.HELD: "held for approval",
    NOT_LICENSED_PHASE: "not licensed",
    OFF_PHASE: "off",
}
_WALKS: Final = (Phase.LISTING, Phase.SWEEPING)


class ResourceRow(msgspec.Struct, frozen=True):
    """A resource of the connection."""

    name: str
    phase: str
    within: str | None
    """The resource that it is read with."""
    fresh_at: datetime | None
    is_late: bool
    limit_seconds: float
    """The age from which it is late."""
    rows: int | None
    has_more: bool
    """Whether there are more rows than were counted."""
    drift: str | None
    full_walk_at: datetime | None
    held: int
    quarantined: int
    reason: str | None


class WalkRow(msgspec.Struct, frozen=True):
    """A walk under way."""

    resource: str
    phase: str
    pages: int
    objects: int
    began: datetime | None
    rate: float | None
    """Objects a second since it began."""
    expected: int | None
    """Objects of the last full walk; None if there was none."""
    ends_at: datetime | None
    """The estimate of when it has read as many."""
    is_first: bool


class RecentRun(msgspec.Struct, frozen=True):
    """A run."""

    id: int
    trigger: RunTrigger
    state: RunState
    began: datetime
    ended: datetime | None
    seconds: float | None
    calls: int
    objects: int
    changes: int
    error: str | None


class ChangeRow(msgspec.Struct, frozen=True):
    """A change."""

    at: datetime
    resource: str
    change: str
    name: str
    changed: str


class ChangeCounts(msgspec.Struct, frozen=True):
    """How often a resource changed, in the order of the kinds."""

    resource: str
    numbers: list[int]


def list_resources(
    facts: ConnectionFacts,
    streams: Sequence[Mapping[str, Any]],
    rows: Mapping[str, int],
    now: datetime,
) -> list[ResourceRow]:
    """Return every resource; one that is read with another is as old as that."""
    by_name = {one["resource"]: one for one in streams}
    ages = facts.list_ages()
    created = facts.created_at.timestamp()
    shown = []
    for name, resource in RESOURCES.items():
        age, stream = ages[name], by_name.get(resource.parent or name)
        own = None if resource.parent else stream
        shown.append(
            ResourceRow(
                name=name,
                phase=_describe_phase(stream) if age.is_on else _PHASES[OFF_PHASE],
                within=resource.parent or None,
                fresh_at=None
                if age.fresh_at is None
                else datetime.fromtimestamp(age.fresh_at, UTC),
                is_late=facts.is_synced and now.timestamp() > age.compute_late_at(created),
                limit_seconds=compute_late_after(age.interval_seconds),
                rows=min(rows[name], MOST_COUNTED),
                has_more=rows[name] > MOST_COUNTED,
                drift=_describe_drift(stream, name),
                full_walk_at=own["full_walk_at"] if own else None,
                held=own["held"] if own else 0,
                quarantined=own["quarantined"] if own else 0,
                reason=_describe_reason(own),
            )
        )
    return shown


def _describe_reason(stream: Mapping[str, Any] | None) -> str | None:
    """Return why a stream is refused, held or waiting, and what Graph does not answer for."""
    if stream is None:
        return None
    return "; ".join(filter(None, (stream["reason"], stream["unresolved"]))) or None


def _describe_phase(stream: Mapping[str, Any] | None) -> str:
    if stream is None:
        return "not read yet"
    phase = stream["phase"]
    if phase == Phase.READY and stream["fresh_at"] is None:
        return "not read yet"
    return _PHASES[phase]


def _describe_drift(stream: Mapping[str, Any] | None, name: str) -> str | None:
    """Return what the last full walk found; None if no walk has measured it."""
    if stream is None or not isinstance(stream["drift"], dict):
        return None
    kinds = stream["drift"].get(name, {})
    return ", ".join(f"{number:,} {kind}" for kind, number in kinds.items() if number) or "none"


def list_walks(
    streams: Sequence[Mapping[str, Any]], now: datetime, *, is_running: bool
) -> list[WalkRow]:
    """Return the walks under way. A rate is only told while a process works on the connection."""
    shown = []
    for one in streams:
        phase = one["phase"]
        if phase not in _WALKS or not one["page_no"]:
            continue
        began, objects = one["walk_started_at"], one["seen_count"]
        seconds = (now - began).total_seconds() if began else 0.0
        rate = objects / seconds if is_running and seconds >= 1 and phase == Phase.LISTING else None
        expected = one["full_walk_count"]
        left = max(0, expected - objects) if expected else 0
        shown.append(
            WalkRow(
                resource=one["resource"],
                phase=_PHASES[phase],
                pages=one["page_no"],
                objects=objects,
                began=began,
                rate=rate,
                expected=expected,
                ends_at=now + timedelta(seconds=left / rate) if rate and left else None,
                is_first=one["first_complete_at"] is None,
            )
        )
    return shown


def build_run(row: Mapping[str, Any]) -> RecentRun:
    ended = row["finished_at"]
    return RecentRun(
        id=row["id"],
        trigger=RunTrigger(row["trigger"]),
        state=RunState(row["state"]),
        began=row["started_at"],
        ended=ended,
        seconds=None if ended is None else (ended - row["started_at"]).total_seconds(),
        calls=row["calls"],
        objects=row["objects"],
        changes=row["created"] + row["updated"] + row["deleted"] + row["restored"],
        error=row["error"],
    )


def list_changes(changes: RecentChanges) -> list[ChangeRow]:
    return [
        ChangeRow(
            at=one.occurred_at,
            resource=one.resource,
            change=one.change,
            name=describe_object(one, changes.names),
            changed=", ".join(one.changed or ()),
        )
        for one in changes.events
    ]


def list_change_kinds(changes: RecentChanges) -> list[str]:
    """Return the kinds of change that there were."""
    return list(dict.fromkeys(one.change for one in changes.counts))


def count_changes(changes: RecentChanges) -> list[ChangeCounts]:
    """Return the numbers by resource, in the order of ``list_change_kinds``."""
    kinds = list_change_kinds(changes)
    numbers = {(one.resource, one.change): one.number for one in changes.counts}
    return [
        ChangeCounts(name, [numbers.get((name, kind), 0) for kind in kinds])
        for name in dict.fromkeys(one.resource for one in changes.counts)
    ]
