"""Looking at change events, without any sink: the last ones, from somewhere on, and as they come.

Each connection has a position of its own, and those who have read a connection's ``event_seq`` see
every event up to it: a commit that comes late is told late, never skipped. Between connections
events are told by their times, as far as they have been committed at the look.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from heapq import merge
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, text

from worker.core.beginning import Beginning, check_scope
from worker.events.naming import names_of
from worker.events.reading import COLUMNS
from worker.store.engine import Database, along_the_key, driver
from worker.store.sequence import Reach, reaches
from worker.store.sinks import Position, Told

HELD: Final = 8_000
"""Events in memory at once, shared by the connections that are read side by side."""
FEWEST, MOST = 8, 500
"""Events of one query."""
STRIDE: Final = 20_000
"""Numbers that one query looks through where few of them may be wanted."""

_OWNERS = text("""
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
_WANTED: Final = """
    (%(resources)s::text[] is null or resource = any (%(resources)s::text[]))
    and (%(changes)s::text[] is null or change = any (%(changes)s::text[]))
"""
_NEXT: Final = f"""
    select {COLUMNS} from events.change_events
     where connection_id = %(id)s and seq > %(seq)s and seq <= %(upto)s and {_WANTED} {{since}}
     order by seq limit %(limit)s
"""
_AFTER: Final = _NEXT.format(since="").encode()
_SINCE: Final = _NEXT.format(since="and occurred_at >= %(at)s").encode()
"""No later event is earlier, so Postgres leaves out the months before."""
_LAST: Final = f"""
    select {COLUMNS}
      from (select found.* from unnest(%(ids)s::bigint[]) as owner (id)
             cross join lateral (
                   select * from events.change_events
                    where connection_id = owner.id and {_WANTED}
                    order by seq desc limit %(limit)s) found
             order by occurred_at desc, connection_id desc, seq desc limit %(limit)s) newest
     order by occurred_at, connection_id, seq
""".encode()
_ONE_MOMENT = text("set transaction isolation level repeatable read, read only")
_NO_LIMIT = text("set local statement_timeout = 0")


class Owner(NamedTuple):
    """The connection that an event belongs to."""

    id: int
    name: str
    """Of the organisation where it is known, else Nango's connection id."""
    tenant_id: str | None
    epoch: str
    """Of the numbers of its events."""


class Seen(NamedTuple):
    """An event, whose it is, and the names of the objects that it tells of, by id."""

    told: Told
    owner: Owner
    names: Mapping[str, str]


@dataclass(frozen=True)
class Wanted:
    """Which events to tell; None: all."""

    connections: frozenset[int] | None = None
    resources: Sequence[str] | None = None
    changes: Sequence[str] | None = None

    @property
    def ids(self) -> list[int] | None:
        return None if self.connections is None else sorted(self.connections)

    @property
    def filter(self) -> dict[str, Any]:
        return {
            "resources": None if self.resources is None else list(self.resources),
            "changes": None if self.changes is None else list(self.changes),
        }


@dataclass
class Tail:
    """Goes on from wherever it has come; begin with ``last`` or ``begin``.

    ``named`` looks up what people call the objects, as they are called today.
    """

    database: Database
    wanted: Wanted = Wanted()
    named: bool = False
    most: int = MOST
    stride: int = STRIDE
    positions: dict[int, Position] = field(default_factory=dict)
    _epoch: str = ""
    _readers: int = 0
    """Connections that are read side by side."""

    def last(self, number: int) -> list[Seen]:
        """The last events there are, in the order of time; what follows them is news."""
        with self.database.begin() as connection:
            connection.execute(_ONE_MOMENT)
            connection.execute(_NO_LIMIT)
            owners = self._owners(connection)
            self.positions = {owner.id: Position(owner.id, seq, None) for owner, seq in owners}
            found = self._last(connection, number) if number else []
            by_id = {owner.id: owner for owner, _ in owners}
            names = {
                one: self._names(connection, one, [told for told in found if told[0] == one])
                for one in {told.connection_id for told in found}
            }
        return [Seen(told, by_id[told.connection_id], names[told.connection_id]) for told in found]

    def begin(self, beginning: Beginning) -> list[Reach]:
        """Begin somewhere; where that is, by connection. Raises Halt where it makes no sense."""
        only = self.wanted.connections
        check_scope(beginning, only)
        with self.database.begin() as connection:
            found = reaches(connection, beginning, only)
        self.positions = {
            one.connection_id: Position(one.connection_id, one.first - 1, None) for one in found
        }
        return found

    def news(self) -> Iterator[Seen]:
        """Everything up to now that was not told; a position moves when its event is taken.

        May be asked again after any trouble, and goes on behind what was taken.
        """
        with self.database.begin() as connection:
            owners = self._owners(connection)
        waiting = [(owner, seq) for owner, seq in owners if self._position(owner.id).seq < seq]
        self._readers = len(waiting)
        readers = [self._read(owner, seq) for owner, seq in waiting]
        for seen in merge(*readers, key=_moment):
            yield seen
            one, seq, at, *_ = seen.told
            self.positions[one] = Position(one, seq, at)
        for owner, seq in waiting:
            self.positions[owner.id] = self._position(owner.id)._replace(seq=seq)

    def _owners(self, connection: Connection) -> list[tuple[Owner, int]]:
        rows = connection.execute(_OWNERS, {"ids": self.wanted.ids})
        owners = [
            (Owner(row.connection_id, row.name, row.tenant_id, row.epoch), row.event_seq)
            for row in rows
        ]
        if owners:
            self._follow_epoch(connection, owners[0][0].epoch)
        return owners

    def _follow_epoch(self, connection: Connection, epoch: str) -> None:
        """Where history was rewound, numbers are given again: go on with the event that tells so.

        A connection that came later begins with its first event.
        """
        before, self._epoch = self._epoch, epoch
        if before in ("", epoch):
            return
        found = connection.execute(_REWOUND, {"epoch": epoch})
        self.positions = {
            row.connection_id: Position(row.connection_id, row.seq - 1, None) for row in found
        }

    def _position(self, connection_id: int) -> Position:
        """A connection that came meanwhile begins with its first event."""
        return self.positions.get(connection_id) or Position(connection_id, 0, None)

    def _read(self, owner: Owner, upto: int) -> Iterator[Seen]:
        """A connection's events that are wanted, behind its position, in short transactions."""
        _, seq, at, _ = self._position(owner.id)
        sparse = self.wanted.resources is not None or self.wanted.changes is not None
        while seq < upto:
            end = min(upto, seq + self.stride) if sparse else upto
            batch = min(max(HELD // self._readers, FEWEST), self.most)
            values = {"id": owner.id, "seq": seq, "upto": end, "at": at, "limit": batch}
            with self.database.begin() as connection:
                found = self._next(connection, values)
                names = self._names(connection, owner.id, found)
            for told in found:
                yield Seen(told, owner, names)
            if found:
                at = found[-1].occurred_at
            seq = found[-1].seq if len(found) == batch else end
        self._readers -= 1

    def _next(self, connection: Connection, values: dict[str, Any]) -> list[Told]:
        along_the_key(connection)
        with driver(connection).cursor() as cursor:
            statement = _AFTER if values["at"] is None else _SINCE
            cursor.execute(statement, {**values, **self.wanted.filter})
            return [Told(*row) for row in cursor.fetchall()]

    def _last(self, connection: Connection, number: int) -> list[Told]:
        ids = list(self.positions)
        along_the_key(connection)
        with driver(connection).cursor() as cursor:
            cursor.execute(_LAST, {"ids": ids, "limit": number, **self.wanted.filter})
            return [Told(*row) for row in cursor.fetchall()]

    def _names(
        self, connection: Connection, connection_id: int, told: Collection[Told]
    ) -> Mapping[str, str]:
        return names_of(connection, connection_id, told) if self.named else {}


def _moment(seen: Seen) -> tuple[datetime, int, int]:
    one, seq, at, *_ = seen.told
    return at, one, seq
