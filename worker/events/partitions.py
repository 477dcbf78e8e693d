"""Monthly partitions of the change events, made ahead; a default one catches what is beyond.

A write never fails for want of a month: the default partition takes what no other does.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import Connection, text

_EXISTS = text("select to_regclass(:name) is not null")
_NAMES = text("""
    select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
     where i.inhparent = 'events.change_events'::regclass order by c.relname
""")
_NAME: Final = re.compile(r"change_events_(\d{4})_(\d{2})")

LOCK_SECONDS: Final = 1
"""How long others may have to wait behind us while we wait for a table."""


class Month(NamedTuple):
    """A partition: the events from ``first`` up to, but not including, ``end``."""

    first: datetime
    end: datetime

    @classmethod
    def at(cls, moment: datetime) -> "Month":
        first = datetime(moment.year, moment.month, 1, tzinfo=UTC)
        return cls(first, month_after(first))

    @property
    def label(self) -> str:
        return f"{self.first:%Y-%m}"

    @property
    def table(self) -> str:
        return f"events.change_events_{self.first:%Y_%m}"

    def goes_at(self, days: int) -> datetime:
        """When every event in it is older than ``days``."""
        return self.end + timedelta(days=days)


def month_after(month: datetime, number: int = 1) -> datetime:
    """The first instant of a later month."""
    years, index = divmod(month.month - 1 + number, 12)
    return datetime(month.year + years, index + 1, 1, tzinfo=UTC)


def months(connection: Connection) -> list[Month]:
    """The months that have a partition, the oldest first."""
    found = (_NAME.fullmatch(name) for name in connection.execute(_NAMES).scalars())
    return sorted(
        Month.at(datetime(int(name[1]), int(name[2]), 1, tzinfo=UTC)) for name in found if name
    )


def moment(connection: Connection) -> datetime:
    """Now, by the database's clock."""
    now: datetime = connection.execute(text("select now()")).scalar_one()
    return now


def be_brief(connection: Connection) -> None:
    """Rather give up than let others queue behind our wait for a lock. Raises Later from then."""
    connection.execute(text(f"set local lock_timeout = '{LOCK_SECONDS}s'"))


def ensure_partitions(connection: Connection, ahead: int = 3) -> list[str]:
    """Make the partitions of this month and the next few; the names of the new ones.

    Rows of a month that already lie in the default partition stay there: the month's partition
    is then not made, and the next month's is.
    """
    return [month.table for month in _missing(connection, ahead) if _make(connection, month)]


def _missing(connection: Connection, ahead: int) -> Iterator[Month]:
    this = Month.at(moment(connection)).first
    for number in range(ahead + 1):
        month = Month.at(month_after(this, number))
        if not _exists(connection, month):
            yield month


def _exists(connection: Connection, month: Month) -> bool:
    return bool(connection.execute(_EXISTS, {"name": month.table}).scalar_one())


def _make(connection: Connection, month: Month) -> bool:
    """Make a table and attach it, so that writers go on meanwhile; False where that cannot be.

    Another process may have made it while this one waited for the lock.

    With ``create table ... partition of`` they would wait for every reader of the whole table.
    """
    connection.execute(text("lock table events.change_events_default in access exclusive mode"))
    if _exists(connection, month) or _default_holds(connection, month):
        return False
    first, end = f"{month.first:%Y-%m-%d}+00", f"{month.end:%Y-%m-%d}+00"
    connection.execute(
        text(f"create table {month.table} (like events.change_events including all)")
    )
    connection.execute(
        text(
            f"alter table events.change_events attach partition {month.table}"
            f" for values from ('{first}') to ('{end}')"
        )
    )
    return True


def _default_holds(connection: Connection, month: Month) -> bool:
    found = connection.execute(
        text(
            "select exists (select from events.change_events_default"
            " where occurred_at >= :first and occurred_at < :end)"
        ),
        month._asdict(),
    )
    return bool(found.scalar_one())


def any_outside(connection: Connection) -> bool:
    """Whether events lie in the default partition, which retention never empties."""
    found = connection.execute(text("select exists (select from events.change_events_default)"))
    return bool(found.scalar_one())


def drop(connection: Connection, month: Month) -> None:
    """Drop a month for good. Whoever reads or writes events waits until the commit."""
    connection.execute(text(f"drop table {month.table}"))
