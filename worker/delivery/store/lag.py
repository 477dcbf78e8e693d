"""Find the oldest undelivered event of each sink. Cheap for ten thousand connections.

There is no index on times. But no event of a connection is earlier than the one before, so each
position bounds the time of its next event: few have to be looked up.
"""

from collections.abc import Iterable, Iterator, Mapping
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
    select b.sink_id, min(e.occurred_at) as oldest
      from unnest(cast(:sinks as bigint[]), cast(:connections as bigint[]),
                  cast(:seqs as bigint[]), cast(:sinces as timestamptz[]),
                  cast(:befores as timestamptz[]))
           as b (sink_id, connection_id, seq, since, before)
     cross join lateral (
           select occurred_at from events.change_events
            where connection_id = b.connection_id and seq > b.seq and occurred_at >= b.since
              and occurred_at < coalesce(b.before, 'infinity')
            order by seq limit 1) e
     group by b.sink_id
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
    """Return the time of each sink's oldest undelivered event; omit sinks without any.

    It takes as many statements for many sinks as for one.
    """
    places = list_lags(db)
    if not places:
        return {}
    first, rest = _split(places)
    with force_key_lookups(db):
        found = _select_oldest(db, first, {})
        # The first few of a sink, sorted by ``since``, rule out most of the others.
        left = [
            one for one in rest if one.sink_id not in found or one.not_before < found[one.sink_id]
        ]
        return found | _select_oldest(db, left, found) if left else found


def _split(places: Iterable[ConnectionLag]) -> tuple[list[ConnectionLag], list[ConnectionLag]]:
    """Return the first few places of each sink, and the others."""
    first: list[ConnectionLag] = []
    rest: list[ConnectionLag] = []
    for _, group in groupby(places, attrgetter("sink_id")):
        some = list(group)
        first += some[:_FIRST_LOOKUPS]
        rest += some[_FIRST_LOOKUPS:]
    return first, rest


def _select_oldest(
    db: sa.Connection, places: list[ConnectionLag], before: Mapping[int, datetime]
) -> dict[int, datetime]:
    """Return the oldest time of each sink, if it is before the one that is known."""
    values = {
        **to_arrays(places),
        "sinks": [one.sink_id for one in places],
        "befores": [before.get(one.sink_id) for one in places],
    }
    return {row.sink_id: row.oldest for row in db.execute(_OLDEST, values)}


def to_arrays(places: Iterable[ConnectionLag]) -> dict[str, list[int] | list[datetime]]:
    """Return the lags as arrays, to be unnested."""
    some = list(places)
    return {
        "connections": [one.connection_id for one in some],
        "seqs": [one.seq for one in some],
        "sinces": [one.not_before for one in some],
    }
