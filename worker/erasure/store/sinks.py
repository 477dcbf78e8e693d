"""Find sinks that have not yet delivered the events about an erased object."""

from typing import Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy import text

from models.resources import REFERENCES
from worker.store.state.erasures import Erasure

SINK_WAIT_DAYS: Final = 30
"""Days that deletions keep their keys for a sink that has not received them."""


_BEHIND = text("""
    select s.name, s.status, coalesce(p.seq, 0) as seq
      from sync.erasures e
      join events.sinks s on s.created_at <= e.created_at
      left join events.positions p on p.sink_id = s.id and p.connection_id = e.connection_id
     where e.connection_id = :id and e.digest = :digest and coalesce(p.seq, 0) < e.last_seq
       and e.created_at > clock_timestamp() - make_interval(days => :days)
       and s.status in ('active', 'paused')
       and (s.connections is null or e.connection_id = any (s.connections))
       and (s.changes is null or 'deleted' = any (s.changes))
       and (s.resources is null or s.resources && cast(:resources as text[]))
     order by s.name
""")


class SinkBehind(NamedTuple):
    """A sink that has not received every deletion."""

    name: str
    status: str
    seq: int


def list_sinks_behind(db: sa.Connection, erasure: Erasure) -> list[SinkBehind]:
    """Return the sinks that want the deletions and lack some; none after ``SINK_WAIT_DAYS``.

    A sink that was added later never sent its receiver the object, and a disabled one sends
    nothing. A paused one may resume.
    """
    values = {
        "id": erasure.connection_id,
        "digest": erasure.digest,
        "days": SINK_WAIT_DAYS,
        "resources": list_touched_resources(erasure.resource),
    }
    return [SinkBehind(*row) for row in db.execute(_BEHIND, values)]


def list_touched_resources(resource: str) -> list[str]:
    """Return the resources with events about an object: its own, and those pointing at it."""
    pointing = (one.resource.name for one in REFERENCES[resource])
    return list(dict.fromkeys([resource, *pointing]))
