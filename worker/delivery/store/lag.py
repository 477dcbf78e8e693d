"""Find the oldest undelivered event of each sink. Cheap for ten thousand connections.

There is no index on times. But no event of a connection is earlier than the one before, so each
position bounds the time of its next event: few have to be looked up.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy import text

from worker.delivery.store.fragments import WANTS_CONNECTION
from worker.store.planner import force_index_scans, reset_planner

_BEHIND = text(f"""
    select s.id as sink_id, l.connection_id, coalesce(p.seq, 0) as seq,
           coalesce(p.occurred_at, c.created_at) as since
      from events.sinks s
     cross join sync.leases l
      join sync.connections c on c.id = l.connection_id
      left join events.positions p on p.sink_id = s.id and p.connection_id = l.connection_id
     where l.event_seq > coalesce(p.seq, 0)
       and {WANTS_CONNECTION}
       and (cast(:before as timestamptz) is null
            or coalesce(p.occurred_at, c.created_at) < :before)
     order by s.id, since, l.connection_id
""")
_OLDEST = text("""
    select min(e.occurred_at)
      from unnest(cast(:connections as bigint[]), cast(:seqs as bigint[]),
                  cast(:sinces as timestamptz[])) as b (connection_id, seq, since)
     cross join lateral (
           select occurred_at from events.change_events
            where connection_id = b.connection_id and seq > b.seq and occurred_at >= b.since
              and occurred_at < coalesce(cast(:before as timestamptz), 'infinity')
            order by seq limit 1) e
""")
_FIRST_LOOKUPS: Final = 100


class ConnectionLag(NamedTuple):
    """A connection with undelivered events for a sink: those after ``seq``.

    A snapshot that is under way needs the events after its cut, which ``seq`` then is.
    """

    sink_id: int
    connection_id: int
    seq: int
    not_before: datetime
    """The next event is not earlier than this."""


def list_lags(db: sa.Connection, before: datetime | None = None) -> list[ConnectionLag]:
    """Return where sinks of any status lag; only if the next event may be before ``before``."""
    return [ConnectionLag(*row) for row in db.execute(_BEHIND, {"before": before})]


@contextmanager
def force_key_lookups(db: sa.Connection) -> Iterator[None]:
    """Look events up by their key only, until the end of the block."""
    force_index_scans(db)
    yield
    reset_planner(db)


def find_oldest_undelivered(db: sa.Connection) -> dict[int, datetime]:
    """Return the time of each sink's oldest undelivered event; omit sinks without any."""
    found = list_lags(db)
    if not found:
        return {}
    with force_key_lookups(db):
        times = {
            sink_id: _find_oldest(db, list(places))
            for sink_id, places in groupby(found, attrgetter("sink_id"))
        }
    return {sink_id: at for sink_id, at in times.items() if at is not None}


def _find_oldest(db: sa.Connection, places: list[ConnectionLag]) -> datetime | None:
    """Look up the first few, sorted by ``since``: they rule out most of the others."""
    oldest = _select_oldest(db, places[:_FIRST_LOOKUPS], None)
    rest = [one for one in places[_FIRST_LOOKUPS:] if oldest is None or one.not_before < oldest]
    return _select_oldest(db, rest, oldest) or oldest if rest else oldest


def _select_oldest(
    db: sa.Connection, places: list[ConnectionLag], before: datetime | None
) -> datetime | None:
    found: datetime | None = db.execute(_OLDEST, {**to_arrays(places), "before": before}).scalar()
    return found


def to_arrays(places: Iterable[ConnectionLag]) -> dict[str, list[int] | list[datetime]]:
    """Return the lags as arrays, to be unnested."""
    some = list(places)
    return {
        "connections": [one.connection_id for one in some],
        "seqs": [one.seq for one in some],
        "sinces": [one.not_before for one in some],
    }
