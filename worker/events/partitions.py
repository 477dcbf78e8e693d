"""Monthly partitions of the change events, created ahead of time, with a default partition.

A write never fails because a month is missing: the default partition takes its rows.
"""

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy import text

_TABLE_EXISTS = text("select to_regclass(:name) is not null")
_PARTITION_NAMES = text("""
    select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
     where i.inhparent = 'events.change_events'::regclass order by c.relname
""")
_NAME_PATTERN: Final = re.compile(r"change_events_(\d{4})_(\d{2})")

LOCK_TIMEOUT_SECONDS: Final = 1
"""How long other sessions may queue behind a wait for the table's lock."""


class MonthPartition(NamedTuple):
    """A partition with the events from ``first`` up to, but not including, ``end``."""

    first: datetime
    end: datetime

    @classmethod
    def containing(cls, moment: datetime) -> "MonthPartition":
        first = datetime(moment.year, moment.month, 1, tzinfo=UTC)
        return cls(first, add_months(first))

    @property
    def label(self) -> str:
        return f"{self.first:%Y-%m}"

    @property
    def table(self) -> str:
        return f"events.change_events_{self.first:%Y_%m}"

    def compute_expiry(self, days: int) -> datetime:
        """Return when all its events are older than ``days``."""
        return self.end + timedelta(days=days)


def add_months(month: datetime, number: int = 1) -> datetime:
    """Return the start of a later month."""
    years, index = divmod(month.month - 1 + number, 12)
    return datetime(month.year + years, index + 1, 1, tzinfo=UTC)


def list_months(db: sa.Connection) -> list[MonthPartition]:
    """Return the months that have a partition, the oldest first."""
    return parse_months(db.execute(_PARTITION_NAMES).scalars())


def parse_months(tables: Iterable[str]) -> list[MonthPartition]:
    """Return the months whose partitions have these names, the oldest first."""
    found = (_NAME_PATTERN.fullmatch(name) for name in tables)
    return sorted(
        MonthPartition.containing(datetime(int(name[1]), int(name[2]), 1, tzinfo=UTC))
        for name in found
        if name
    )


def read_database_clock(db: sa.Connection) -> datetime:
    """Return the database's current time."""
    now: datetime = db.execute(text("select now()")).scalar_one()
    return now


def set_lock_timeout(db: sa.Connection) -> None:
    """Limit waits for locks, so that other sessions do not queue behind them.

    Statements that wait longer raise RetryLater.
    """
    db.execute(text(f"set local lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'"))


def ensure_partitions(db: sa.Connection, ahead: int = 3) -> list[str]:
    """Create missing partitions of this month and the next ones, and return their names.

    A month with rows in the default partition is skipped: they stay there.
    """
    return [month.table for month in _find_missing(db, ahead) if _create_partition(db, month)]


def _find_missing(db: sa.Connection, ahead: int) -> Iterator[MonthPartition]:
    this = MonthPartition.containing(read_database_clock(db)).first
    for number in range(ahead + 1):
        month = MonthPartition.containing(add_months(this, number))
        if not _has_partition(db, month):
            yield month


def _has_partition(db: sa.Connection, month: MonthPartition) -> bool:
    return bool(db.execute(_TABLE_EXISTS, {"name": month.table}).scalar_one())


def _create_partition(db: sa.Connection, month: MonthPartition) -> bool:
    """Create a table and attach it, and return True; False if that is impossible or already done.

    Another process may have created it while this one waited for the lock. With ``create table ...
    partition of``, writers would wait for every reader of the whole table.
    """
    db.execute(text("lock table events.change_events_default in access exclusive mode"))
    if _has_partition(db, month) or _has_events_in_default(db, month):
        return False
    first, end = f"{month.first:%Y-%m-%d}+00", f"{month.end:%Y-%m-%d}+00"
    db.execute(text(f"create table {month.table} (like events.change_events including all)"))
    db.execute(
        text(
            f"alter table events.change_events attach partition {month.table}"
            f" for values from ('{first}') to ('{end}')"
        )
    )
    return True


def _has_events_in_default(db: sa.Connection, month: MonthPartition) -> bool:
    found = db.execute(
        text(
            "select exists (select from events.change_events_default"
            " where occurred_at >= :first and occurred_at < :end)"
        ),
        month._asdict(),
    )
    return bool(found.scalar_one())


def has_unpartitioned_events(db: sa.Connection) -> bool:
    """Whether the default partition, which retention never empties, has events."""
    found = db.execute(text("select exists (select from events.change_events_default)"))
    return bool(found.scalar_one())


def drop_partition(db: sa.Connection, month: MonthPartition) -> None:
    """Drop a month's events. Readers and writers of events wait until the commit."""
    db.execute(text(f"drop table {month.table}"))
