"""Events that retention dropped before a sink got them, until it has a snapshot or is removed.

Holds a row of ``sync.service_state`` for each sink and month, written in the transaction of the
drop.
"""

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy import text

LOST_PREFIX: Final = "events_dropped:"
_SINK_ID: Final = "(m.value ->> 'sink_id')::bigint"
_RECORD = text("""
    insert into sync.service_state (name, value, updated_at)
    values (:name, cast(:value as jsonb), now())
        on conflict (name) do update
       set value = excluded.value, updated_at = excluded.updated_at
""")
_LIST = text(f"""
    select s.id as sink_id, s.name as sink, m.value, m.updated_at as dropped_at
      from sync.service_state m
      join events.sinks s on s.id = {_SINK_ID}
     where starts_with(m.name, :names) order by s.id, m.name
""")
_FORGET = text("""
    update sync.service_state m
       set value = jsonb_set(m.value, '{parts}', coalesce(
               (select jsonb_agg(p) from jsonb_array_elements(m.value -> 'parts') as p
                 where not (p ->> 'connection_id')::bigint = any (cast(:ids as bigint[]))), '[]'))
     where starts_with(m.name, :names)
""")
_FORGET_ALL = text("delete from sync.service_state where starts_with(name, :names)")
_PURGE = text(f"""
    delete from sync.service_state m
     where starts_with(m.name, :names)
       and (m.value -> 'parts' = '[]'
            or not exists (select from events.sinks s
                            where s.id = {_SINK_ID}))
""")


class UndeliveredRange(NamedTuple):
    """Events of one connection in one month that a sink has not received."""

    sink_id: int
    connection_id: int
    first: int
    last: int
    since: datetime

    @property
    def event_count(self) -> int:
        return self.last - self.first + 1


class LostEvents(NamedTuple):
    """Events of a month that a sink never received and that no longer exist."""

    sink_id: int
    month: str
    status: str
    """The sink's status when they were dropped."""
    dropped_at: datetime
    ranges: list[UndeliveredRange]

    @property
    def event_count(self) -> int:
        return sum(part.event_count for part in self.ranges)

    @property
    def connection_count(self) -> int:
        return len(self.ranges)


def record_lost(
    db: sa.Connection, sink_id: int, month: str, status: str, parts: Iterable[UndeliveredRange]
) -> None:
    """Record the events of a month that are dropped before a sink got them."""
    value = {
        "sink_id": sink_id,
        "month": month,
        "status": status,
        "parts": [
            {"connection_id": it.connection_id, "first": it.first, "last": it.last, "at": it.since}
            for it in parts
        ],
    }
    name, written = f"{LOST_PREFIX}{sink_id}:{month}", msgspec.json.encode(value).decode()
    db.execute(_RECORD, {"name": name, "value": written})


def list_lost(db: sa.Connection) -> list[LostEvents]:
    """Return the events that were dropped before a sink got them, for existing sinks."""
    return [
        LostEvents(
            row.sink_id,
            row.value["month"],
            row.value["status"],
            row.dropped_at,
            [_parse_range(row.sink_id, part) for part in row.value["parts"]],
        )
        for row in db.execute(_LIST, {"names": LOST_PREFIX})
    ]


def _parse_range(sink_id: int, part: dict[str, Any]) -> UndeliveredRange:
    at = datetime.fromisoformat(part["at"])
    return UndeliveredRange(sink_id, part["connection_id"], part["first"], part["last"], at)


def forget_lost(db: sa.Connection, sink_id: int, connections: Collection[int]) -> None:
    """Forget a sink's lost events of these connections, as it gets a snapshot of them."""
    names = f"{LOST_PREFIX}{sink_id}:"
    db.execute(_FORGET, {"names": names, "ids": list(connections)})
    db.execute(_PURGE, {"names": names})


def forget_all_lost(db: sa.Connection) -> None:
    """Forget all lost events, as every sink gets a snapshot of all connections."""
    db.execute(_FORGET_ALL, {"names": LOST_PREFIX})


def purge_lost(db: sa.Connection) -> None:
    """Forget the lost events of removed sinks."""
    db.execute(_PURGE, {"names": LOST_PREFIX})
