"""The rows of a connection as they were at a cut, for a sink that begins with a snapshot.

The cut is an event: the position's. A page is a short transaction of its own, so that a slow
receiver keeps none open; what was written behind the cut meanwhile is undone with its events,
which the same transaction sees. So the pages together tell one moment, and the tail goes on
from there: nothing is missed and nothing comes twice.

Where history was rewound, the cut is the event that tells so, and comes first. An event that tells
the end comes last: the receiver holds objects of another history, and what it has not been sent
again by then is no more.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

import msgspec
from sqlalchemy import Connection, text

from models.base import DIRECTORY
from models.change_event import ChangeKind, ConnectionChange
from models.event_type import CONNECTION
from models.resource import OWNER, Resource
from models.resources import RESOURCES
from models.row import Row, shape_of
from worker.core.log import logger
from worker.events.envelope import snapshot_id
from worker.events.reading import events_after
from worker.events.undo import AtCut, State, at_cut, undone
from worker.store.engine import along_the_key, driver
from worker.store.progress import Progress
from worker.store.sinks import Position, Sink, Told
from worker.store.writing import sql_type

_ONE_MOMENT: Final = text("set transaction isolation level repeatable read, read only")
_SINCE: Final = b"""
    select object_id, seq, change, before, after
      from events.change_events
     where connection_id = %(id)s and seq > %(seq)s and occurred_at >= %(at)s
       and resource = %(resource)s and object_id = any(%(keys)s::text[])
     order by seq desc
"""
_AT_ONCE: Final = 500
REWOUND: Final = ConnectionChange.REWOUND


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
    wanted = _wanted(sink)
    told: list[Told] = []
    if progress.rewound and not progress.resource and wanted:
        head = _rewound(connection, after)
        if head:
            return head, after._replace(snapshot=progress._replace(resource=wanted[0].name))
    room = limit
    for resource in _left(wanted, progress.resource):
        last = progress.after if resource.name == progress.resource else ()
        rows = _rows(connection, after.connection_id, resource, last, room)
        told += _told(connection, after, resource, rows, sink.epoch)
        if len(rows) == room:
            reached = Progress(
                resource.name, rows[-1].key, progress.rows + len(told), progress.rewound
            )
            return told, after._replace(snapshot=reached)
        room -= len(rows)
    if progress.rewound and wanted:
        told += _completed(after, wanted, sink.epoch)
    return told, after._replace(snapshot=None)


def _rewound(connection: Connection, cut: Position) -> list[Told]:
    """The event that history was rewound, where it is the cut."""
    found = events_after(connection, cut._replace(seq=cut.seq - 1), 1)
    return [told for told in found if told.seq == cut.seq and told.change == REWOUND]


def _completed(cut: Position, wanted: Sequence[Resource], epoch: str) -> list[Told]:
    """The end of a snapshot: what a receiver holds besides of these resources is no more."""
    assert cut.occurred_at is not None, "a connection without events has no snapshot"
    about = {"resources": [resource.name for resource in wanted]}
    object_id, change = str(cut.connection_id), ConnectionChange.SNAPSHOT_COMPLETED
    return [
        Told(
            connection_id=cut.connection_id,
            seq=cut.seq,
            occurred_at=cut.occurred_at,
            event_id=snapshot_id(cut.connection_id, change, object_id, cut.seq, epoch),
            resource=CONNECTION,
            object_id=object_id,
            change=change,
            after=msgspec.json.encode(about).decode(),
            snapshot=True,
        )
    ]


def _wanted(sink: Sink) -> list[Resource]:
    """The resources that a sink wants a snapshot of, in order."""
    if sink.changes is not None and ChangeKind.CREATED not in sink.changes:
        return []
    everything = RESOURCES.values()
    return [one for one in everything if sink.resources is None or one.name in sink.resources]


def _left(wanted: Sequence[Resource], reached: str) -> Sequence[Resource]:
    """From the resource that was reached on."""
    names = [resource.name for resource in wanted]
    return wanted[names.index(reached) :] if reached in names else wanted


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
    connection: Connection,
    cut: Position,
    resource: Resource,
    rows: Sequence[_Stored],
    epoch: str,
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
            event_id=snapshot_id(cut.connection_id, resource.name, key, cut.seq, epoch),
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
