"""Looking at change events, without any sink: the last ones, from somewhere on, and as they come.

Each connection has a position of its own, and those who have read a connection's ``event_seq`` see
every event up to it: a commit that comes late is told late, never skipped. Between connections
events are told by their times, as far as they have been committed at the look.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from heapq import merge
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy import text

from worker.events.event import Event, Position
from worker.events.filter import EventFilter
from worker.events.object_names import load_object_names
from worker.events.read import EVENT_COLUMNS
from worker.events.resolve_start import ResolvedStart, resolve_start
from worker.events.start import StartPosition, check_single_connection
from worker.store.engine import Database, get_driver_connection
from worker.store.planner import force_index_scans

MAX_BUFFERED_EVENTS: Final = 8_000
"""Events in memory at once, shared by the connections that are read side by side."""
MIN_ROWS, MAX_ROWS = 8, 500
"""Events of one query."""
SCAN_RANGE: Final = 20_000
"""Numbers that one query looks through where few of them may be wanted."""

_SOURCES = text("""
    select l.connection_id, l.event_seq, c.tenant_id,
           coalesce(c.display_name, c.nango_connection_id) as name,
           (select e.id::text from events.epochs e order by e.id desc limit 1) as epoch
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
"""
_NEXT: Final = f"""
    select {EVENT_COLUMNS} from events.change_events
     where connection_id = %(id)s and seq > %(seq)s and seq <= %(upto)s and {_FILTER} {{since}}
     order by seq limit %(limit)s
"""
_AFTER: Final = _NEXT.format(since="").encode()
_SINCE: Final = _NEXT.format(since="and occurred_at >= %(at)s").encode()
"""No later event is earlier, so Postgres leaves out the months before."""
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
    """Of the organisation where it is known, else Nango's connection id."""
    tenant_id: str | None
    epoch: str
    """Of the numbers of its events."""


class TailedEvent(NamedTuple):
    """An event, whose it is, and the names of the objects that it tells of, by id."""

    event: Event
    source: EventSource
    names: Mapping[str, str]


@dataclass
class Tail:
    """Goes on from wherever it has come; begin with ``last`` or ``begin``.

    ``named`` looks up what people call the objects, as they are called today.
    """

    database: Database
    filter: EventFilter = EventFilter()  # noqa: RUF009 - it is frozen
    with_names: bool = False
    max_rows: int = MAX_ROWS
    scan_range: int = SCAN_RANGE
    positions: dict[int, Position] = field(default_factory=dict)
    _epoch: str = ""
    _reader_count: int = 0
    """Connections that are read side by side."""

    def read_last(self, number: int) -> list[TailedEvent]:
        """The last events there are, in the order of time; what follows them is news."""
        with self.database.open_transaction() as db:
            db.execute(_SET_SNAPSHOT_ISOLATION)
            db.execute(_DISABLE_STATEMENT_TIMEOUT)
            owners = self._load_sources(db)
            self.positions = {owner.id: Position(owner.id, seq, None) for owner, seq in owners}
            found = self._select_last(db, number) if number else []
            by_id = {owner.id: owner for owner, _ in owners}
            names = {
                one: self._load_names(db, one, [told for told in found if told[0] == one])
                for one in {told.connection_id for told in found}
            }
        return [
            TailedEvent(told, by_id[told.connection_id], names[told.connection_id])
            for told in found
        ]

    def seek(self, start: StartPosition) -> list[ResolvedStart]:
        """Begin somewhere.

        Where that is, by connection. Raises ConfigurationError where it makes no sense.
        """
        only = self.filter.connections
        check_single_connection(start, only)
        with self.database.open_transaction() as db:
            found = resolve_start(db, start, only)
        self.positions = {
            one.connection_id: Position(one.connection_id, one.start - 1, None) for one in found
        }
        return found

    def read_new(self) -> Iterator[TailedEvent]:
        """Everything up to now that was not told; a position moves when its event is taken.

        May be asked again after any trouble, and goes on behind what was taken.
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
        """Where history was rewound, numbers are given again: go on with the event that tells so.

        A connection that came later begins with its first event.
        """
        before, self._epoch = self._epoch, epoch
        if before in ("", epoch):
            return
        found = db.execute(_REWOUND, {"epoch": epoch})
        self.positions = {
            row.connection_id: Position(row.connection_id, row.seq - 1, None) for row in found
        }

    def _get_position(self, connection_id: int) -> Position:
        """A connection that came meanwhile begins with its first event."""
        return self.positions.get(connection_id) or Position(connection_id, 0, None)

    def _read_connection(self, owner: EventSource, upto: int) -> Iterator[TailedEvent]:
        """A connection's events that are wanted, behind its position, in short transactions."""
        _, seq, at, _ = self._get_position(owner.id)
        sparse = self.filter.resources is not None or self.filter.changes is not None
        while seq < upto:
            end = min(upto, seq + self.scan_range) if sparse else upto
            batch = min(max(MAX_BUFFERED_EVENTS // self._reader_count, MIN_ROWS), self.max_rows)
            values = {"id": owner.id, "seq": seq, "upto": end, "at": at, "limit": batch}
            with self.database.open_transaction() as db:
                found = self._select_next(db, values)
                names = self._load_names(db, owner.id, found)
            for told in found:
                yield TailedEvent(told, owner, names)
            if found:
                at = found[-1].occurred_at
            seq = found[-1].seq if len(found) == batch else end
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
        self, db: sa.Connection, connection_id: int, told: Collection[Event]
    ) -> Mapping[str, str]:
        return load_object_names(db, connection_id, told) if self.with_names else {}


def _get_sort_key(seen: TailedEvent) -> tuple[datetime, int, int]:
    one, seq, at, *_ = seen.event
    return at, one, seq
