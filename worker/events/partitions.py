"""Monthly partitions of the change events, made ahead; a default one catches what is beyond."""

from datetime import UTC, datetime

from sqlalchemy import Connection, text

_EXISTS = text("select to_regclass(:name) is not null")


def month_after(month: datetime, number: int = 1) -> datetime:
    """The first instant of a later month."""
    years, index = divmod(month.month - 1 + number, 12)
    return datetime(month.year + years, index + 1, 1, tzinfo=UTC)


def ensure_partitions(connection: Connection, ahead: int = 3) -> list[str]:
    """Make the partitions of this month and the next few; the names of the new ones.

    Rows of a month that already lie in the default partition stay there: the month's partition
    is then not made, and the next month's is.
    """
    now: datetime = connection.execute(text("select now()")).scalar_one()
    start = datetime(now.year, now.month, 1, tzinfo=UTC)
    made = []
    for number in range(ahead + 1):
        first, last = month_after(start, number), month_after(start, number + 1)
        name = f"events.change_events_{first:%Y_%m}"
        if connection.execute(_EXISTS, {"name": name}).scalar_one():
            continue
        if _default_holds(connection, first, last):
            continue
        connection.execute(
            text(
                f"create table {name} partition of events.change_events"
                f" for values from ('{first:%Y-%m-%d}+00') to ('{last:%Y-%m-%d}+00')"
            )
        )
        made.append(name)
    return made


def _default_holds(connection: Connection, first: datetime, last: datetime) -> bool:
    found = connection.execute(
        text(
            "select exists (select from events.change_events_default"
            " where occurred_at >= :first and occurred_at < :last)"
        ),
        {"first": first, "last": last},
    )
    return bool(found.scalar_one())


def drop_partitions(connection: Connection, days: int) -> list[str]:
    """Drop the months whose events are all older than ``days``; their names."""
    names = connection.execute(
        text(
            "select c.relname from pg_inherits i"
            " join pg_class c on c.oid = i.inhrelid"
            " where i.inhparent = 'events.change_events'::regclass"
            " and c.relname ~ '^change_events_[0-9]{4}_[0-9]{2}$'"
        )
    )
    now: datetime = connection.execute(text("select now()")).scalar_one()
    dropped = []
    for (name,) in list(names):
        year, month = name.removeprefix("change_events_").split("_")
        end = month_after(datetime(int(year), int(month), 1, tzinfo=UTC))
        if (now - end).days >= days:
            connection.execute(text(f"drop table events.{name}"))
            dropped.append(name)
    return sorted(dropped)
