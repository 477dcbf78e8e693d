"""What retention dropped before a sink had it: remembered until that is made good, or nobody asks.

A row of ``sync.service_state`` for each sink and month, written in the transaction of the drop.
"""

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import Connection, text

_NAMES: Final = "events_dropped:"
_REMEMBER = text("""
    insert into sync.service_state (name, value, updated_at)
    values (:name, cast(:value as jsonb), now())
        on conflict (name) do update
       set value = excluded.value, updated_at = excluded.updated_at
""")
_RECALL = text("""
    select s.id as sink_id, s.name as sink, m.value, m.updated_at as dropped_at
      from sync.service_state m
      join events.sinks s on s.id = (m.value ->> 'sink_id')::bigint
     where starts_with(m.name, :names) order by s.id, m.name
""")
_FORGIVE = text("""
    update sync.service_state m
       set value = jsonb_set(m.value, '{parts}', coalesce(
               (select jsonb_agg(p) from jsonb_array_elements(m.value -> 'parts') as p
                 where not (p ->> 'connection_id')::bigint = any (cast(:ids as bigint[]))), '[]'))
     where starts_with(m.name, :names)
""")
_FORGIVE_ALL = text("delete from sync.service_state where starts_with(name, :names)")
_CLEAR = text("""
    delete from sync.service_state m
     where starts_with(m.name, :names)
       and (m.value -> 'parts' = '[]'
            or not exists (select from events.sinks s
                            where s.id = (m.value ->> 'sink_id')::bigint))
""")


class Part(NamedTuple):
    """Events of one connection in one month that a sink has not had."""

    sink_id: int
    connection_id: int
    first: int
    last: int
    since: datetime

    @property
    def events(self) -> int:
        return self.last - self.first + 1


class Memory(NamedTuple):
    """Events of a month that a sink never had and nobody can give it any more."""

    sink_id: int
    month: str
    status: str
    """The sink's, when they were dropped."""
    dropped_at: datetime
    parts: list[Part]

    @property
    def events(self) -> int:
        return sum(part.events for part in self.parts)

    @property
    def connections(self) -> int:
        return len(self.parts)


def remember(
    connection: Connection, sink_id: int, month: str, status: str, parts: Iterable[Part]
) -> None:
    """Note that a month goes without a sink having had these events of it."""
    value = {
        "sink_id": sink_id,
        "month": month,
        "status": status,
        "parts": [
            {"connection_id": it.connection_id, "first": it.first, "last": it.last, "at": it.since}
            for it in parts
        ],
    }
    name, written = f"{_NAMES}{sink_id}:{month}", msgspec.json.encode(value).decode()
    connection.execute(_REMEMBER, {"name": name, "value": written})


def recalled(connection: Connection) -> list[Memory]:
    """What was dropped before a sink had it, for as long as there is that sink."""
    return [
        Memory(
            row.sink_id,
            row.value["month"],
            row.value["status"],
            row.dropped_at,
            [_part(row.sink_id, part) for part in row.value["parts"]],
        )
        for row in connection.execute(_RECALL, {"names": _NAMES})
    ]


def _part(sink_id: int, part: dict[str, Any]) -> Part:
    at = datetime.fromisoformat(part["at"])
    return Part(sink_id, part["connection_id"], part["first"], part["last"], at)


def forgive(connection: Connection, sink_id: int, connections: Collection[int]) -> None:
    """A sink gets a snapshot of these connections: what it missed of them no longer matters."""
    names = f"{_NAMES}{sink_id}:"
    connection.execute(_FORGIVE, {"names": names, "ids": list(connections)})
    connection.execute(_CLEAR, {"names": names})


def forgive_all(connection: Connection) -> None:
    """Every sink gets a snapshot of all connections."""
    connection.execute(_FORGIVE_ALL, {"names": _NAMES})


def clear_memories(connection: Connection) -> None:
    """Forget what was remembered for sinks that are gone."""
    connection.execute(_CLEAR, {"names": _NAMES})
