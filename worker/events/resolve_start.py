"""Resolution of a start position to a sequence number for each connection."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import text

from worker.core.errors import InvalidInput
from worker.events.start import FromAge, FromSequence, FromTime, StartPosition
from worker.store.engine import load_server_time
from worker.store.planner import force_index_scans

_KEPT = text("""
    select l.connection_id, l.event_seq, coalesce(kept.seq, l.event_seq + 1) as oldest
      from sync.leases l
      left join lateral (
           select e.seq from events.change_events e
            where e.connection_id = l.connection_id order by e.seq limit 1) kept on true
     where cast(:ids as bigint[]) is null or l.connection_id = any (cast(:ids as bigint[]))
     order by l.connection_id
""")
# A binary search, as times never decrease along the sequence and have no index. Retention has
# dropped numbers without an event.
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


class ResolvedStart(NamedTuple):
    """The range of a connection's stored events, and where to start."""

    connection_id: int
    oldest: int
    """First number that is stored; ``last + 1`` if there is none."""
    last: int
    start: int
    """Number to start with; ``last + 1`` if no event is late enough."""


def resolve_start(
    db: sa.Connection, start: StartPosition, ids: Collection[int] | None = None
) -> list[ResolvedStart]:
    """Return where to start for each connection (or those in ``ids``).

    Never before the oldest stored event. Raises InvalidInput for a time in the future.
    """
    force_index_scans(db)
    values = {"ids": None if ids is None else sorted(ids)}
    kept = [(row.connection_id, row.oldest, row.event_seq) for row in db.execute(_KEPT, values)]
    first = _find_first_sequences(db, start, kept)
    return [
        ResolvedStart(one, oldest, last, max(oldest, first.get(one, oldest)))
        for one, oldest, last in kept
    ]


def _find_first_sequences(
    db: sa.Connection, start: StartPosition, kept: list[tuple[int, int, int]]
) -> dict[int, int]:
    """Return the sequence number of a number or time, by connection; empty for the oldest."""
    if isinstance(start, FromSequence):
        return {one: start.seq for one, _, _ in kept}
    if not isinstance(start, FromTime | FromAge):
        return {}
    values = {
        "ids": [one for one, _, _ in kept],
        "lows": [oldest for _, oldest, _ in kept],
        "highs": [last + 1 for _, _, last in kept],
        "moment": resolve_time(db, start),
    }
    return {row.connection_id: row.low for row in db.execute(_FIRST_SINCE, values)}


def resolve_time(db: sa.Connection, beginning: FromTime | FromAge) -> datetime:
    """Return the time by the database's clock, which also sets the events' times.

    Raises InvalidInput if it is in the future.
    """
    now = load_server_time(db)
    if isinstance(beginning, FromAge):
        return now - beginning.age
    if beginning.moment > now + timedelta(seconds=1):
        raise InvalidInput(f"{beginning.moment:%Y-%m-%dT%H:%M:%SZ} is in the future")
    return beginning.moment
