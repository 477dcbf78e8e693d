"""Read a connection's rows as of a cut, for a sink that starts with a snapshot.

The cut is the event at the position. A page is a short transaction of its own, so that a slow
receiver keeps none open; changes after the cut are undone with their events, which the same
transaction sees. So the pages together show one moment, and the tail continues from there: no event
is missing or repeated. Columns that events did not tell yet at the cut are null.

A ``snapshot_completed`` event comes last. It carries the cut even where no object was live, so that
the receiver knows which event comes next. Objects that the receiver holds from before, and that it
has not received again by then, no longer exist. After a rewind, the cut is the ``rewound`` event,
which comes first.
"""

import uuid
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy import text

from models.base import DIRECTORY
from models.change_event import ChangeKind, ConnectionChange
from models.event_type import CONNECTION_RESOURCE
from models.resource import OWNER, Resource
from models.resources import RESOURCES
from worker.core.log import get_logger
from worker.delivery.store.sinks import Sink
from worker.events.coverage import Coverage, load_coverage
from worker.events.event import Event, Position, SnapshotProgress
from worker.events.read import read_events_after
from worker.events.undo import CutState, ObjectState, classify_at_cut, undo_event
from worker.rows.shape import Row, get_shape
from worker.store.engine import get_driver_connection
from worker.store.planner import force_index_scans

SNAPSHOT_ID_NAMESPACE: Final = uuid.UUID("6a0f6b1e-3f0c-5a57-9c39-0f2d6a0a6e11")
"""Namespace of the ids of snapshot events, so that one sent twice has the same id."""


def build_snapshot_event_id(
    connection_id: int, resource: str, object_id: str, seq: int, epoch: str
) -> str:
    """Return the id of a snapshot event: the same however often it is sent."""
    about = f"{connection_id}/{resource}/{object_id}/{seq}/{epoch}"
    return str(uuid.uuid5(SNAPSHOT_ID_NAMESPACE, about))


_SET_SNAPSHOT_ISOLATION: Final = text("set transaction isolation level repeatable read, read only")
_EVENTS_AFTER_CUT: Final = b"""
    select object_id, seq, change, before, after
      from events.change_events
     where connection_id = %(id)s and seq > %(seq)s and occurred_at >= %(at)s
       and resource = %(resource)s and object_id = any(%(keys)s::text[])
     order by seq desc
"""
_FETCH_SIZE: Final = 500
REWOUND: Final = ConnectionChange.REWOUND


class _StoredRow(NamedTuple):
    """A row as currently stored."""

    key: tuple[str, ...]
    first_seen_at: datetime
    changed_at: datetime
    live: bool
    row: Row


def read_snapshot_page(
    db: sa.Connection, sink: Sink, after: Position, limit: int
) -> tuple[list[Event], Position]:
    """Return the next rows as events, read in one transaction, and the position after them.

    Users and groups come before memberships and assignments. The position after the last page has
    no snapshot.
    """
    db.execute(_SET_SNAPSHOT_ISOLATION)
    force_index_scans(db)
    progress = after.snapshot or SnapshotProgress()
    wanted = _list_wanted_resources(sink)
    events: list[Event] = []
    if progress.rewound and not progress.resource and wanted:
        head = _read_rewound_event(db, after)
        if head:
            return head, after._replace(snapshot=progress._replace(resource=wanted[0].name))
    coverage = load_coverage(db, after.connection_id)
    switched = max((coverage[resource.name].off_seq for resource in wanted), default=0)
    if switched > after.seq:
        return [], _move_cut(db, after, switched)
    room = limit
    for resource in _list_remaining(wanted, progress.resource):
        last = progress.after if resource.name == progress.resource else ()
        is_on = coverage[resource.name].is_on
        rows = _select_rows(db, after.connection_id, resource, last, room) if is_on else []
        known = coverage[resource.name]
        events += _build_events(db, after, resource, rows, sink.epoch, coverage=known)
        if len(rows) == room:
            reached = SnapshotProgress(
                resource.name, rows[-1].key, progress.rows + len(events), progress.rewound
            )
            return events, after._replace(snapshot=reached)
        room -= len(rows)
    if wanted:
        events += _build_completed_event(after, wanted, sink.epoch)
    return events, after._replace(snapshot=None)


def _move_cut(db: sa.Connection, cut: Position, seq: int) -> Position:
    """Return a snapshot that begins anew at a later cut.

    A resource was switched off after the cut: its rows of then are gone, and no event tells them.
    """
    (event,) = read_events_after(db, cut._replace(seq=seq - 1), 1)
    rewound = cut.snapshot is not None and cut.snapshot.rewound
    begun = SnapshotProgress(rewound=rewound)
    return Position(cut.connection_id, event.seq, event.occurred_at, begun)


def _read_rewound_event(db: sa.Connection, cut: Position) -> list[Event]:
    """Return the ``rewound`` event if it is the cut."""
    events = read_events_after(db, cut._replace(seq=cut.seq - 1), 1)
    return [event for event in events if event.seq == cut.seq and event.change == REWOUND]


def _build_completed_event(cut: Position, wanted: Sequence[Resource], epoch: str) -> list[Event]:
    """Return the end event of a snapshot: other objects of these resources no longer exist."""
    assert cut.occurred_at is not None, "a connection without events has no snapshot"
    about = {"resources": [resource.name for resource in wanted]}
    object_id, change = str(cut.connection_id), ConnectionChange.SNAPSHOT_COMPLETED
    return [
        Event(
            connection_id=cut.connection_id,
            seq=cut.seq,
            occurred_at=cut.occurred_at,
            event_id=build_snapshot_event_id(cut.connection_id, change, object_id, cut.seq, epoch),
            resource=CONNECTION_RESOURCE,
            object_id=object_id,
            change=change,
            after=msgspec.json.encode(about).decode(),
            snapshot=True,
        )
    ]


def _list_wanted_resources(sink: Sink) -> list[Resource]:
    """Return the resources of a sink's snapshot, in order."""
    if sink.changes is not None and ChangeKind.CREATED not in sink.changes:
        return []
    everything = [one for one in RESOURCES.values() if one.has_events]
    return [one for one in everything if sink.resources is None or one.name in sink.resources]


def _list_remaining(wanted: Sequence[Resource], reached: str) -> Sequence[Resource]:
    """Return the resources from the reached one on."""
    names = [resource.name for resource in wanted]
    return wanted[names.index(reached) :] if reached in names else wanted


def _select_rows(
    db: sa.Connection,
    connection_id: int,
    resource: Resource,
    after: tuple[str, ...],
    limit: int,
) -> list[_StoredRow]:
    """Return the next rows by key, deleted ones included."""
    key = ", ".join(resource.key)
    holes = ", ".join(f"%s::{column.type.sql}" for column in resource.key_columns)
    columns = ", ".join(f'"{name}"' for name in resource.column_names)
    behind = f"and ({key}) > ({holes})" if after else ""
    statement = (
        f"select first_seen_at, changed_at, deleted_at is null, {columns}"
        f" from {DIRECTORY}.{resource.name} where {OWNER} = %s {behind}"
        f" order by {key} limit %s"
    )
    length = len(resource.key)
    with get_driver_connection(db).cursor() as cursor:
        cursor.execute(statement, (connection_id, *after, limit))
        return [_StoredRow(row[3 : 3 + length], row[0], row[1], row[2], row[3:]) for row in cursor]


def _build_events(
    db: sa.Connection,
    cut: Position,
    resource: Resource,
    rows: Sequence[_StoredRow],
    epoch: str,
    *,
    coverage: Coverage,
) -> list[Event]:
    """Return a created event for each row that was live at the cut.

    All carry the cut's sequence and time: they describe that moment, whenever they are read.
    """
    shape = get_shape(resource)
    assert cut.occurred_at is not None, "a connection without events has no snapshot"
    untold = coverage.find_untold(cut.seq)
    live: dict[str, bytes | None] = {}
    doubtful: dict[str, ObjectState] = {}
    for stored in rows:
        key = "/".join(stored.key)
        state_at_cut = classify_at_cut(stored.first_seen_at, stored.changed_at, cut.occurred_at)
        if state_at_cut is CutState.ABSENT:
            continue
        live[key] = None  # in the order of the keys
        if state_at_cut is CutState.NEEDS_UNDO:
            whole = shape.encode_json(stored.row)
            doubtful[key] = msgspec.json.decode(whole) if stored.live else None
        elif stored.live:
            row = shape.clear_columns(stored.row, untold) if untold else stored.row
            live[key] = shape.encode_json(row)
    _undo_to_cut(db, cut, resource, doubtful, coverage)
    for key, state in doubtful.items():
        if state is not None:
            live[key] = msgspec.json.encode(_hide(state, untold))
    return [
        Event(
            connection_id=cut.connection_id,
            seq=cut.seq,
            occurred_at=cut.occurred_at,
            event_id=build_snapshot_event_id(cut.connection_id, resource.name, key, cut.seq, epoch),
            resource=resource.name,
            object_id=key,
            change=ChangeKind.CREATED,
            after=whole.decode(),
            snapshot=True,
        )
        for key, whole in live.items()
        if whole is not None
    ]


def _hide(state: dict[str, Any], untold: Collection[str]) -> dict[str, Any]:
    """Return a state with nulls in the columns that events did not tell at the cut."""
    return {name: None if name in untold else value for name, value in state.items()}


def _undo_to_cut(
    db: sa.Connection,
    cut: Position,
    resource: Resource,
    states: dict[str, ObjectState],
    coverage: Coverage,
) -> None:
    """Restore objects to their state at the cut, by undoing all of their later events."""
    if not states:
        return
    with get_driver_connection(db).cursor(name="behind_the_cut") as cursor:
        cursor.itersize = _FETCH_SIZE
        cursor.execute(
            _EVENTS_AFTER_CUT,
            {
                "id": cut.connection_id,
                "seq": cut.seq,
                "at": cut.occurred_at,
                "resource": resource.name,
                "keys": list(states),
            },
        )
        for key, seq, change, before, after in cursor:
            untold = coverage.find_untold(seq)
            problem, states[key] = undo_event(change, states[key], before, after, untold)
            if problem:
                get_logger().warning(
                    "event contradicts the mirror while a snapshot is read",
                    connection_id=cut.connection_id,
                    resource=resource.name,
                    sequence=seq,
                    reason=problem,
                    hint="run 'tenant-mirror verify'",
                )
