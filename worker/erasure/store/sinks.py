"""Sinks that have not yet delivered events about an erased object."""

from typing import Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy import text

from models.resource import Kind
from models.resources import RESOURCES
from worker.store.state.erasures import Erasure

SINK_WAIT_DAYS: Final = 30
"""How long deletions keep their keys for a sink that has not had them."""


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
    """A sink that has not had every deletion."""

    name: str
    status: str
    seq: int


def list_sinks_behind(db: sa.Connection, erasure: Erasure) -> list[SinkBehind]:
    """Sinks that want the deletions and have not had all of them; none after so many days.

    One that was added later never told its receiver of the object, and one that its receiver has
    switched off tells nobody. A paused one goes on some day.
    """
    values = {
        "id": erasure.connection_id,
        "digest": erasure.digest,
        "days": SINK_WAIT_DAYS,
        "resources": list_touched_resources(erasure.resource),
    }
    return [SinkBehind(*row) for row in db.execute(_BEHIND, values)]


def list_touched_resources(resource: str) -> list[str]:
    """The resources whose events may tell of an object: its own, and those that point at it."""
    if RESOURCES[resource].kind is Kind.ENTITY:
        return [resource, "group_members", "role_assignments"]
    return [resource]
