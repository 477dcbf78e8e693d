"""Tailing change events without a sink: the last ones, from a start position, or as they arrive.

Each connection has its own position, and all events up to its ``event_seq`` are committed: a late
commit is read late, never skipped. Events of several connections are merged by time, as far as
they are committed when read.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from heapq import merge
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy import text

from worker.events.epochs import CURRENT_EPOCH
from worker.events.event import Event, Position
from worker.events.filter import EventFilter
from worker.events.object_names import load_object_names
from worker.events.read import EVENT_COLUMNS
from worker.events.resolve_start import ResolvedStart, resolve_start
from worker.events.start import StartPosition, check_single_connection
from worker.store.engine import Database, get_driver_connection
from worker.store.planner import force_index_scans

MAX_BUFFERED_EVENTS: Final = 8_000
"""Most events in memory, shared by the connections that are read in parallel."""
MIN_ROWS, MAX_ROWS = 8, 500
"""Fewest and most events of one query."""
SCAN_RANGE: Final = 20_000
"""Sequence numbers that one query scans if a filter may match few of them."""

_SOURCES = text(f"""
    select l.connection_id, l.event_seq, c.tenant_id,
           coalesce(c.display_name, c.nango_connection_id) as name,
           {CURRENT_EPOCH} as epoch
      from sync.leases l join sync.connections c on c.id = l.connection_id
     where cast(:ids as bigint[]) is null or l.connection_id = any (cast(:ids as bigint[]))
     order by l.connection_id
""")
_REWOUND = text("""
    select connection_id, min(seq) as seq
      from events.change_events
     where occurred_at >= (select started_at from events.epochs where id = cast(:epoch as uuid))
       and resource = 'connection' and change = 'rewound'
     group by connection_id
""")
_FILTER: Final = """
    (%(resources)s::text[] is null or resource = any (%(resources)s::text[]))
    and (%(changes)s::text[] is null or change = any (%(changes)s::text[]))
    and (%(initial)s or not initial)
    and (%(until)s::timestamptz is null or occurred_at < %(until)s)
"""
_NEXT: Final = f"""
    select {EVENT_COLUMNS} from events.change_events
     where connection_id = %(id)s and seq > %(seq)s and seq <= %(upto)s and {_FILTER} {{since}}
     order by seq limit %(limit)s
"""
_AFTER: Final = _NEXT.format(since="").encode()
_SINCE: Final = _NEXT.format(since="and occurred_at >= %(at)s").encode()
"""Later events never have earlier times, so Postgres skips the partitions of earlier months."""
_LAST: Final = f"""
    select {EVENT_COLUMNS}
      from (select found.* from unnest(%(ids)s::bigint[]) as owner (id)
             cross join lateral (
                   select * from events.change_events
                    where connection_id = owner.id and {_FILTER}
                    order by seq desc limit %(limit)s) found
             order by occurred_at desc, connection_id desc, seq desc limit %(limit)s) newest
     order by occurred_at, connection_id, seq
""".encode()
_SET_SNAPSHOT_ISOLATION = text("set transaction isolation level repeatable read, read only")
_DISABLE_STATEMENT_TIMEOUT = text("set local statement_timeout = 0")


class EventSource(NamedTuple):
    """The connection that an event belongs to."""

    id: int
    name: str
    """The organisation's name if known, else Nango's connection id."""
    tenant_id: str | None
    epoch: str
    """Epoch of its sequence numbers."""


class TailedEvent(NamedTuple):
    """An event, its connection, and the names of the objects it mentions, by id."""

    event: Event
    source: EventSource
    names: Mapping[str, str]


@dataclass
class Tail:
    """Reads events after its positions; start with ``read_last`` or ``seek``.

    ``with_names`` looks up the current names of objects.
    """

    database: Database
    filter: EventFilter = EventFilter()  # noqa: RUF009 - it is frozen
    with_names: bool = False
    max_rows: int = MAX_ROWS
    scan_range: int = SCAN_RANGE
    positions: dict[int, Position] = field(default_factory=dict)
    _epoch: str = ""
    _reader_count: int = 0
    """Connections that are read in parallel."""

    def read_last(self, number: int) -> list[TailedEvent]:
        """Return the last events, ordered by time; ``read_new`` continues after them."""
        with self.database.open_transaction() as db:
            db.execute(_SET_SNAPSHOT_ISOLATION)
            db.execute(_DISABLE_STATEMENT_TIMEOUT)
            owners = self._load_sources(db)
            self.positions = {owner.id: Position(owner.id, seq, None) for owner, seq in owners}
            events = self._select_last(db, number) if number else []
            by_id = {owner.id: owner for owner, _ in owners}
            names = {
                one: self._load_names(db, one, [event for event in events if event[0] == one])
                for one in {event.connection_id for event in events}
            }
        return [
            TailedEvent(event, by_id[event.connection_id], names[event.connection_id])
            for event in events
        ]

    def seek(self, start: StartPosition) -> list[ResolvedStart]:
        """Set the start position, and return where that is for each connection.

        Raises InvalidInput if the position is invalid.
        """
        only = self.filter.connections
        check_single_connection(start, only)
        with self.database.open_transaction() as db:
            starts = resolve_start(db, start, only)
        self.positions = {
            one.connection_id: Position(one.connection_id, one.start - 1, None) for one in starts
        }
        return starts

    def read_new(self) -> Iterator[TailedEvent]:
        """Yield all events up to now that were not read; a position moves as its event is taken.

        After an error it can be called again, and continues after the events taken.
        """
        with self.database.open_transaction() as db:
            owners = self._load_sources(db)
        waiting = [(owner, seq) for owner, seq in owners if self._get_position(owner.id).seq < seq]
        self._reader_count = len(waiting)
        readers = [self._read_connection(owner, seq) for owner, seq in waiting]
        for seen in merge(*readers, key=_get_sort_key):
            yield seen
            one, seq, at, *_ = seen.event
            self.positions[one] = Position(one, seq, at)
        for owner, seq in waiting:
            self.positions[owner.id] = self._get_position(owner.id)._replace(seq=seq)

    def _load_sources(self, db: sa.Connection) -> list[tuple[EventSource, int]]:
        rows = db.execute(_SOURCES, {"ids": self.filter.connection_ids})
        owners = [
            (EventSource(row.connection_id, row.name, row.tenant_id, row.epoch), row.event_seq)
            for row in rows
        ]
        if owners:
            self._reset_after_rewind(db, owners[0][0].epoch)
        return owners

    def _reset_after_rewind(self, db: sa.Connection, epoch: str) -> None:
        """If the epoch has changed, continue with each connection's ``rewound`` event.

        A connection without one, which was added later, starts with its first event.
        """
        before, self._epoch = self._epoch, epoch
        if before in ("", epoch):
            return
        rows = db.execute(_REWOUND, {"epoch": epoch})
        self.positions = {
            row.connection_id: Position(row.connection_id, row.seq - 1, None) for row in rows
        }

    def _get_position(self, connection_id: int) -> Position:
        """Return a position; a connection added meanwhile starts with its first event."""
        return self.positions.get(connection_id) or Position(connection_id, 0, None)

    def _read_connection(self, owner: EventSource, upto: int) -> Iterator[TailedEvent]:
        """Yield a connection's filtered events after its position, using short transactions."""
        _, seq, at, _ = self._get_position(owner.id)
        while seq < upto:
            end = min(upto, seq + self.scan_range) if self.filter.is_sparse else upto
            batch = min(max(MAX_BUFFERED_EVENTS // self._reader_count, MIN_ROWS), self.max_rows)
            values = {"id": owner.id, "seq": seq, "upto": end, "at": at, "limit": batch}
            with self.database.open_transaction() as db:
                events = self._select_next(db, values)
                names = self._load_names(db, owner.id, events)
            for event in events:
                yield TailedEvent(event, owner, names)
            if events:
                at = events[-1].occurred_at
            seq = events[-1].seq if len(events) == batch else end
        self._reader_count -= 1

    def _select_next(self, db: sa.Connection, values: dict[str, Any]) -> list[Event]:
        force_index_scans(db)
        with get_driver_connection(db).cursor() as cursor:
            statement = _AFTER if values["at"] is None else _SINCE
            cursor.execute(statement, {**values, **self.filter.parameters})
            return [Event(*row) for row in cursor.fetchall()]

    def _select_last(self, db: sa.Connection, number: int) -> list[Event]:
        ids = list(self.positions)
        force_index_scans(db)
        with get_driver_connection(db).cursor() as cursor:
            cursor.execute(_LAST, {"ids": ids, "limit": number, **self.filter.parameters})
            return [Event(*row) for row in cursor.fetchall()]

    def _load_names(
        self, db: sa.Connection, connection_id: int, events: Collection[Event]
    ) -> Mapping[str, str]:
        return load_object_names(db, connection_id, events) if self.with_names else {}


def _get_sort_key(seen: TailedEvent) -> tuple[datetime, int, int]:
    one, seq, at, *_ = seen.event
    return at, one, seq
