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
