"""Drop old events, and report loudly if a sink has not received them.

A month whose events are all past their retention is dropped, from the oldest on. One with events
that an active sink has not received is kept for a grace period, and so are all later ones: a
sequence never gets a gap. Events dropped before a sink got them are recorded in the same
transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from itertools import groupby
from operator import attrgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy import text

from models.sink import SinkStatus
from worker.core.errors import RetryLater
from worker.delivery.store.lag import force_key_lookups, list_lags, to_arrays
from worker.delivery.store.lost_events import UndeliveredRange, purge_lost, record_lost
from worker.events import partitions
from worker.events.partitions import (
    MonthPartition,
    list_months,
    read_database_clock,
    set_lock_timeout,
)
from worker.store.engine import Database

_LOCK_SINKS = text("select id, name, status from events.sinks order by id for share")
_SINKS = text("select id, name, status from events.sinks order by id")
_RANGES = text("""
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
_LOCK_RETENTION = text("select pg_advisory_xact_lock(hashtextextended('events retention', 0))")


@dataclass(frozen=True)
class UndeliveredEvents:
    """Events of a month that a sink has not received; counted before the sink's filters."""

    sink_id: int
    sink: str
    status: SinkStatus
    month: MonthPartition
    ranges: Sequence[UndeliveredRange]

    @property
    def event_count(self) -> int:
        return sum(part.event_count for part in self.ranges)

    @property
    def connection_count(self) -> int:
        return len(self.ranges)

    @property
    def since(self) -> datetime:
        return min(part.since for part in self.ranges)

    def to_log(self) -> dict[str, Any]:
        """Return the fields of log lines."""
        return {
            "sink": self.sink,
            "sink_status": self.status.value,
            "month": self.month.label,
            "event_count": self.event_count,
            "connection_count": self.connection_count,
            "since": self.since,
        }


class RetentionDecision(Enum):
    """The decision on a month that is past its retention."""

    KEPT = auto()
    DROPPED = auto()
    BUSY = auto()
    """A long read of it, or of a sink, blocks the drop; the next hour tries again."""


@dataclass(frozen=True)
class RetentionOutcome:
    """The decision on a month, and the sinks that have not received all of it."""

    month: MonthPartition
    decision: RetentionDecision
    expires_at: datetime
    """When it is dropped even if sinks have not received it."""
    undelivered: Sequence[UndeliveredEvents] = ()


def decide_retention(
    month: MonthPartition,
    undelivered: Sequence[UndeliveredEvents],
    now: datetime,
    days: int,
    grace: int,
) -> RetentionDecision:
    """Return whether a month is kept: only for an active sink, and for the grace period."""
    waited_for = any(one.status is SinkStatus.ACTIVE for one in undelivered)
    return (
        RetentionDecision.KEPT
        if waited_for and now < month.compute_expiry(days + grace)
        else RetentionDecision.DROPPED
    )


def drop_expired_months(database: Database, days: int, grace: int) -> list[RetentionOutcome]:
    """Drop the months past their retention; return the outcome of each that was checked.

    Each has its own transaction, which gives up rather than block writers.
    """
    outcomes: list[RetentionOutcome] = []
    with database.open_transaction() as connection:
        due = list_expired_months(connection, days)
        purge_lost(connection)
    for month in due:
        try:
            with database.open_transaction() as db:
                outcome = _drop_or_keep(db, month, days, grace)
        except RetryLater:
            outcome = RetentionOutcome(
                month, RetentionDecision.BUSY, month.compute_expiry(days + grace)
            )
        if outcome is not None:
            outcomes.append(outcome)
            if outcome.decision is not RetentionDecision.DROPPED:
                break
    return outcomes


def _drop_or_keep(
    db: sa.Connection, month: MonthPartition, days: int, grace: int
) -> RetentionOutcome | None:
    """Drop or keep a month, with sinks locked: none is resumed, or moved back, meanwhile.

    None if another process has dropped the month before. Raises RetryLater.
    """
    set_lock_timeout(db)
    db.execute(_LOCK_RETENTION)
    if month not in list_months(db):
        return None
    missed = find_undelivered(db, month, lock_sinks=True)
    fate = decide_retention(month, missed, read_database_clock(db), days, grace)
    if fate is RetentionDecision.DROPPED:
        for one in missed:
            record_lost(db, one.sink_id, month.label, one.status, one.ranges)
        partitions.drop_partition(db, month)
    return RetentionOutcome(month, fate, month.compute_expiry(days + grace), missed)


def list_expired_months(db: sa.Connection, days: int) -> list[MonthPartition]:
    """Return the months whose events are all older than ``days``, the oldest first."""
    now = read_database_clock(db)
    return [month for month in list_months(db) if month.compute_expiry(days) <= now]


def list_overdue_months(db: sa.Connection, days: int, grace: int) -> list[RetentionOutcome]:
    """Return the existing months past their retention, with their undelivered events."""
    return [
        RetentionOutcome(
            month,
            RetentionDecision.KEPT,
            month.compute_expiry(days + grace),
            find_undelivered(db, month),
        )
        for month in list_expired_months(db, days)
    ]


def find_undelivered(
    db: sa.Connection, month: MonthPartition, *, lock_sinks: bool = False
) -> list[UndeliveredEvents]:
    """Return the sinks that have not received all of a month."""
    sinks = {row.id: row for row in db.execute(_LOCK_SINKS if lock_sinks else _SINKS)}
    found = _find_ranges(db, month)
    return [
        UndeliveredEvents(
            sink_id, sinks[sink_id].name, SinkStatus(sinks[sink_id].status), month, list(parts)
        )
        for sink_id, parts in groupby(found, attrgetter("sink_id"))
        if sink_id in sinks
    ]


def _find_ranges(db: sa.Connection, month: MonthPartition) -> list[UndeliveredRange]:
    places = list_lags(db, before=month.end)
    if not places:
        return []
    values = {**to_arrays(places), "sinks": [one.sink_id for one in places], **month._asdict()}
    with force_key_lookups(db):
        return sorted(UndeliveredRange(*row) for row in db.execute(_RANGES, values))
