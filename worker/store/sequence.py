"""Where to begin in a connection's sequence of events: what is kept, what a time comes to."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection, text

from worker.core.beginning import Ago, At, Beginning, Numbered
from worker.core.errors import Halt
from worker.store.engine import along_the_key

_NOW = text("select clock_timestamp()")
_KEPT = text("""
    select l.connection_id, l.event_seq, coalesce(kept.seq, l.event_seq + 1) as oldest
      from sync.leases l
      left join lateral (
           select e.seq from events.change_events e
            where e.connection_id = l.connection_id order by e.seq limit 1) kept on true
     where cast(:ids as bigint[]) is null or l.connection_id = any (cast(:ids as bigint[]))
     order by l.connection_id
""")
# Halves the range until one is left: times never run against the numbers, and there is no index
# on times. A number without an event is one that retention has dropped.
_FIRST_SINCE = text("""
    with recursive search (connection_id, low, high) as (
        select * from unnest(cast(:ids as bigint[]), cast(:lows as bigint[]),
                             cast(:highs as bigint[]))
         union all
        select s.connection_id,
               case when coalesce(e.occurred_at < :moment, true) then s.middle + 1 else s.low end,
               case when coalesce(e.occurred_at < :moment, true) then s.high else s.middle end
          from (select *, low + (high - low) / 2 as middle from search where low < high) s
          left join lateral (
               select c.occurred_at from events.change_events c
                where c.connection_id = s.connection_id and c.seq = s.middle) e on true)
    select connection_id, low from search where low >= high
""")


class Reach(NamedTuple):
    """What there is of a connection's events, and where to begin."""

    connection_id: int
    oldest: int
    """The first number that is kept; one above ``last`` if none is."""
    last: int
    first: int
    """To begin with; one above ``last`` where no event is so late yet."""


def reaches(
    connection: Connection, beginning: Beginning, ids: Collection[int] | None = None
) -> list[Reach]:
    """Where to begin with each connection, or with some. Raises Halt for a time to come.

    Never before the oldest that is kept.
    """
    along_the_key(connection)
    values = {"ids": None if ids is None else sorted(ids)}
    kept = [
        (row.connection_id, row.oldest, row.event_seq) for row in connection.execute(_KEPT, values)
    ]
    first = _firsts(connection, beginning, kept)
    return [
        Reach(one, oldest, last, max(oldest, first.get(one, oldest))) for one, oldest, last in kept
    ]


def _firsts(
    connection: Connection, beginning: Beginning, kept: list[tuple[int, int, int]]
) -> dict[int, int]:
    """What a number or a time comes to, by connection; empty: the oldest."""
    if isinstance(beginning, Numbered):
        return {one: beginning.seq for one, _, _ in kept}
    if not isinstance(beginning, At | Ago):
        return {}
    values = {
        "ids": [one for one, _, _ in kept],
        "lows": [oldest for _, oldest, _ in kept],
        "highs": [last + 1 for _, _, last in kept],
        "moment": _moment(connection, beginning),
    }
    return {row.connection_id: row.low for row in connection.execute(_FIRST_SINCE, values)}


def _moment(connection: Connection, beginning: At | Ago) -> datetime:
    """By the database's clock, which gave the events their times."""
    now: datetime = connection.execute(_NOW).scalar_one()
    if isinstance(beginning, Ago):
        return now - beginning.span
    if beginning.moment > now + timedelta(seconds=1):
        raise Halt(f"{beginning.moment:%Y-%m-%dT%H:%M:%SZ} is still to come")
    return beginning.moment
