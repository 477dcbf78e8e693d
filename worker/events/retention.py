"""Letting go of old events: never past a sink without saying so loudly.

A month whose events are all past their keep is dropped, from the oldest on. One that holds events
which an active sink has not had is kept for a time of grace, and so is all behind it: no hole ever
comes into a sequence. What is dropped before a sink had it is remembered in the same transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from itertools import groupby
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, text

from models.sink import SinkStatus
from worker.core.errors import Later
from worker.events import partitions
from worker.events.partitions import Month, be_brief, moment, months
from worker.store.dropped import Part, clear_memories, remember
from worker.store.engine import Database
from worker.store.sink_lag import behind, columns, looking_up

_HOLD_STILL = text("select id, name, status from events.sinks order by id for share")
_SINKS = text("select id, name, status from events.sinks order by id")
_PARTS = text("""
    select b.sink_id, b.connection_id, f.seq, e.seq, f.occurred_at
      from unnest(cast(:sinks as bigint[]), cast(:connections as bigint[]),
                  cast(:seqs as bigint[])) as b (sink_id, connection_id, seq)
     cross join lateral (
           select seq, occurred_at from events.change_events
            where connection_id = b.connection_id and seq > b.seq
              and occurred_at >= :first and occurred_at < :end order by seq limit 1) f
     cross join lateral (
           select seq from events.change_events
            where connection_id = b.connection_id
              and occurred_at >= :first and occurred_at < :end order by seq desc limit 1) e
""")
_ONE_AT_A_TIME = text("select pg_advisory_xact_lock(hashtextextended('events retention', 0))")


@dataclass(frozen=True)
class Missed:
    """What a sink has not had of a month; counted ahead of the sink's filters."""

    sink_id: int
    sink: str
    status: SinkStatus
    month: Month
    parts: Sequence[Part]

    @property
    def events(self) -> int:
        return sum(part.events for part in self.parts)

    @property
    def connections(self) -> int:
        return len(self.parts)

    @property
    def since(self) -> datetime:
        return min(part.since for part in self.parts)

    def told(self) -> dict[str, Any]:
        """For logs and programs."""
        return {
            "sink": self.sink,
            "status": self.status.value,
            "month": self.month.label,
            "events": self.events,
            "connections": self.connections,
            "since": self.since,
        }


class Fate(Enum):
    """What becomes of a month that is past its keep."""

    KEPT = auto()
    DROPPED = auto()
    BUSY = auto()
    """It is being read for long, or a sink is; the next hour tries again."""


@dataclass(frozen=True)
class Outcome:
    """What became of a month, and who had not had all of it."""

    month: Month
    fate: Fate
    goes_at: datetime
    """When it is dropped whoever lacks it."""
    missed: Sequence[Missed] = ()


def decide(month: Month, missed: Sequence[Missed], now: datetime, days: int, grace: int) -> Fate:
    """Only a sink that is active holds a month, and for a time."""
    waited_for = any(one.status is SinkStatus.ACTIVE for one in missed)
    return Fate.KEPT if waited_for and now < month.goes_at(days + grace) else Fate.DROPPED


def let_go(database: Database, days: int, grace: int) -> list[Outcome]:
    """Drop the months that are past their keep; what became of each that was looked at.

    Each in a transaction of its own, which gives up rather than hold up those who write.
    """
    outcomes: list[Outcome] = []
    with database.begin() as connection:
        due = expired(connection, days)
        clear_memories(connection)
    for month in due:
        try:
            with database.begin() as connection:
                outcome = _judged(connection, month, days, grace)
        except Later:
            outcome = Outcome(month, Fate.BUSY, month.goes_at(days + grace))
        if outcome is not None:
            outcomes.append(outcome)
            if outcome.fate is not Fate.DROPPED:
                break
    return outcomes


def _judged(connection: Connection, month: Month, days: int, grace: int) -> Outcome | None:
    """Sinks are held still meanwhile: none is resumed, or set back, behind our back.

    None where another process has dropped the month before. Raises Later.
    """
    be_brief(connection)
    connection.execute(_ONE_AT_A_TIME)
    if month not in months(connection):
        return None
    missed = undelivered(connection, month, hold_still=True)
    fate = decide(month, missed, moment(connection), days, grace)
    if fate is Fate.DROPPED:
        for one in missed:
            remember(connection, one.sink_id, month.label, one.status, one.parts)
        partitions.drop(connection, month)
    return Outcome(month, fate, month.goes_at(days + grace), missed)


def expired(connection: Connection, days: int) -> list[Month]:
    """The months of which every event is older than ``days``, the oldest first."""
    now = moment(connection)
    return [month for month in months(connection) if month.goes_at(days) <= now]


def overdue(connection: Connection, days: int, grace: int) -> list[Outcome]:
    """The months that are past their keep and still there, with who has not had all of them."""
    return [
        Outcome(month, Fate.KEPT, month.goes_at(days + grace), undelivered(connection, month))
        for month in expired(connection, days)
    ]


def undelivered(connection: Connection, month: Month, *, hold_still: bool = False) -> list[Missed]:
    """Which sinks have not had all of a month."""
    sinks = {row.id: row for row in connection.execute(_HOLD_STILL if hold_still else _SINKS)}
    found = _parts(connection, month)
    return [
        Missed(sink_id, sinks[sink_id].name, SinkStatus(sinks[sink_id].status), month, list(parts))
        for sink_id, parts in groupby(found, attrgetter("sink_id"))
        if sink_id in sinks
    ]


def _parts(connection: Connection, month: Month) -> list[Part]:
    places = behind(connection, before=month.end)
    if not places:
        return []
    values = {**columns(places), "sinks": [one.sink_id for one in places], **month._asdict()}
    with looking_up(connection):
        return sorted(Part(*row) for row in connection.execute(_PARTS, values))
