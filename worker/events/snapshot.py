"""The rows of a connection as they were at a cut, for a sink that begins with a snapshot.

The cut is an event: the position's. A page is a short transaction of its own, so that a slow
receiver keeps none open; what was written behind the cut meanwhile is undone with its events,
which the same transaction sees. So the pages together tell one moment, and the tail goes on
from there: nothing is missed and nothing comes twice.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

import msgspec
from sqlalchemy import Connection, text

from models.base import DIRECTORY
from models.change_event import ChangeKind
from models.resource import OWNER, Resource
from models.resources import RESOURCES
from models.row import Row, shape_of
from worker.core.log import logger
from worker.events.envelope import snapshot_id
from worker.events.undo import AtCut, State, at_cut, undone
from worker.store.engine import along_the_key, driver
from worker.store.merge import sql_type
from worker.store.sinks import Position, Progress, Sink, Told

_ONE_MOMENT: Final = text("set transaction isolation level repeatable read, read only")
_SINCE: Final = b"""
    select object_id, seq, change, before, after
      from events.change_events
     where connection_id = %(id)s and seq > %(seq)s and occurred_at >= %(at)s
       and resource = %(resource)s and object_id = any(%(keys)s::text[])
     order by seq desc
"""
_AT_ONCE: Final = 500


class _Stored(NamedTuple):
    """A row as it is now."""

    key: tuple[str, ...]
    first_seen_at: datetime
    changed_at: datetime
    live: bool
    row: Row


def read_page(
    connection: Connection, sink: Sink, after: Position, limit: int
) -> tuple[list[Told], Position]:
    """The next rows, in a transaction of their own, and the position behind them.

    Users and groups come before memberships and assignments. The position of the last page has no
    snapshot any more.
    """
    connection.execute(_ONE_MOMENT)
    along_the_key(connection)
    progress = after.snapshot or Progress()
    told: list[Told] = []
    room = limit
    for resource in _left(sink, progress.resource):
        last = progress.after if resource.name == progress.resource else ()
        rows = _rows(connection, after.connection_id, resource, last, room)
        told += _told(connection, after, resource, rows)
        if len(rows) == room:
            reached = Progress(resource.name, rows[-1].key, progress.rows + len(told))
            return told, after._replace(snapshot=reached)
        room -= len(rows)
    return told, after._replace(snapshot=None)


def _left(sink: Sink, reached: str) -> list[Resource]:
    """The resources that a sink wants a snapshot of, from the one that was reached."""
    if sink.changes is not None and ChangeKind.CREATED not in sink.changes:
        return []
    names = list(RESOURCES)
    left = names[names.index(reached) :] if reached in names else names
    return [RESOURCES[name] for name in left if sink.resources is None or name in sink.resources]


def _rows(
    connection: Connection,
    connection_id: int,
    resource: Resource,
    after: tuple[str, ...],
    limit: int,
) -> list[_Stored]:
    """The next rows along the key, deleted ones included."""
    key = ", ".join(resource.key)
    holes = ", ".join(
        f"%s::{sql_type(column.type)}" for column in resource.columns[: len(resource.key)]
    )
    columns = ", ".join(f'"{name}"' for name in resource.column_names)
    behind = f"and ({key}) > ({holes})" if after else ""
    statement = (
        f"select first_seen_at, changed_at, deleted_at is null, {columns}"
        f" from {DIRECTORY}.{resource.name} where {OWNER} = %s {behind}"
        f" order by {key} limit %s"
    )
    length = len(resource.key)
    with driver(connection).cursor() as cursor:
        cursor.execute(statement, (connection_id, *after, limit))
        return [_Stored(row[3 : 3 + length], row[0], row[1], row[2], row[3:]) for row in cursor]


def _told(
    connection: Connection, cut: Position, resource: Resource, rows: Sequence[_Stored]
) -> list[Told]:
    """The rows that were live at the cut, each as a created event would tell it.

    All carry the cut's sequence and time: they tell that moment, whenever they are read.
    """
    shape = shape_of(resource)
    assert cut.occurred_at is not None, "a connection without events has no snapshot"
    live: dict[str, bytes | None] = {}
    doubtful: dict[str, State] = {}
    for stored in rows:
        key = "/".join(stored.key)
        known = at_cut(stored.first_seen_at, stored.changed_at, cut.occurred_at)
        if known is AtCut.ABSENT:
            continue
        whole = live[key] = shape.json(stored.row) if stored.live else None
        if known is AtCut.UNDO:
            doubtful[key] = None if whole is None else msgspec.json.decode(whole)
    _undo(connection, cut, resource, doubtful)
    for key, state in doubtful.items():
        live[key] = None if state is None else msgspec.json.encode(state)
    return [
        Told(
            connection_id=cut.connection_id,
            seq=cut.seq,
            occurred_at=cut.occurred_at,
            event_id=snapshot_id(cut.connection_id, resource.name, key, cut.seq),
            resource=resource.name,
            object_id=key,
            change=ChangeKind.CREATED,
            after=whole.decode(),
            snapshot=True,
        )
        for key, whole in live.items()
        if whole is not None
    ]


def _undo(
    connection: Connection, cut: Position, resource: Resource, states: dict[str, State]
) -> None:
    """Bring some objects back to the cut, through all of their events behind it."""
    if not states:
        return
    with driver(connection).cursor(name="behind_the_cut") as cursor:
        cursor.itersize = _AT_ONCE
        cursor.execute(
            _SINCE,
            {
                "id": cut.connection_id,
                "seq": cut.seq,
                "at": cut.occurred_at,
                "resource": resource.name,
                "keys": list(states),
            },
        )
        for key, seq, change, before, after in cursor:
            problem, states[key] = undone(change, states[key], before, after)
            if problem:
                logger().warning(
                    "an event does not tell what a snapshot holds; run 'tenant-mirror verify'",
                    connection=cut.connection_id,
                    resource=resource.name,
                    event=seq,
                    problem=problem,
                )
