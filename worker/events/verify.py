"""Do the events tell the tables? Undo them from today's rows, backwards, and see that each fits.

One snapshot, streamed object by object, so that memory stays flat. Told are also a gap in the
sequence, a row without history, and a row whose content is not what its hash says. What was
erased, or is being erased, is passed over: its events tell no more what it was.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, text

from models.base import DIRECTORY
from models.erasure import MARK
from models.resource import OWNER, Kind, Resource
from models.resources import RESOURCES
from models.row import HASH_VERSION, shape_of
from worker.events.undo import State, undone
from worker.store.engine import driver
from worker.store.erasure import being_erased
from worker.store.unresolved import summaries

SHOWN: Final = 20
"""Problems that are told one by one; more are counted."""

_SEQUENCE = text("""
    select count(*) as number, min(seq) as first, max(seq) as last, min(occurred_at) as oldest,
           (select event_seq from sync.leases where connection_id = :id) as counted
      from events.change_events where connection_id = :id
""")


@dataclass
class Verification:
    """What was checked and what does not fit."""

    rows: int = 0
    events: int = 0
    first_seq: int | None = None
    last_seq: int | None = None
    oldest_at: datetime | None = None
    by_resource: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    problem_count: int = 0
    erased: int = 0
    """Events that were passed over, as what they told of was erased."""
    unresolved: dict[str, str] = field(default_factory=dict)
    """What may differ from the tenant, as Graph does not answer for it: no fault of the events."""

    @property
    def whole_history(self) -> bool:
        """Whether events reach back to the first."""
        return self.first_seq in (None, 1)

    def complain(self, problem: str) -> None:
        self.problem_count += 1
        if len(self.problems) < SHOWN:
            self.problems.append(problem)


def verify(connection: Connection, connection_id: int) -> Verification:
    """Check a connection's events against its rows."""
    connection.execute(text("set transaction isolation level repeatable read, read only"))
    connection.execute(text("set local statement_timeout = 0"))
    found = Verification()
    leaving = being_erased(connection, connection_id)
    _check_sequence(connection, connection_id, found)
    found.unresolved = summaries(connection, connection_id).get(connection_id, {})
    for resource in RESOURCES.values():
        _check_resource(connection, connection_id, resource, leaving, found)
    return found


def _check_sequence(connection: Connection, connection_id: int, found: Verification) -> None:
    row = connection.execute(_SEQUENCE, {"id": connection_id}).one()
    found.events, found.oldest_at = row.number, row.oldest
    found.first_seq, found.last_seq = row.first, row.last
    if row.number and row.number != row.last - row.first + 1:
        missing = row.last - row.first + 1 - row.number
        found.complain(f"the sequence {row.first} to {row.last} lacks {missing} events")
    if (row.counted or 0) != (row.last or 0):
        found.complain(f"the counter stands at {row.counted}, the last event at {row.last}")


def _key(resource: Resource) -> str:
    return " || '/' || ".join(f"{name}::text" for name in resource.key)


def _rows(
    connection: Connection, connection_id: int, resource: Resource
) -> Iterator[tuple[str, Any, bool, bytes | None]]:
    columns = ", ".join(f'"{name}"' for name in resource.column_names)
    statement = (
        f'select ({_key(resource)}) collate "C" as k, deleted_at is null, row_hash, {columns}'
        f" from {DIRECTORY}.{resource.name} where {OWNER} = %s order by k"
    )
    with driver(connection).cursor(name=f"rows_{resource.name}") as cursor:
        cursor.itersize = 2000
        cursor.execute(statement, (connection_id,))
        for row in cursor:
            yield row[0], row[3:], row[1], row[2]


def _events(
    connection: Connection, connection_id: int, resource: Resource
) -> Iterator[tuple[str, int, str, Any, Any]]:
    with driver(connection).cursor(name=f"events_{resource.name}") as cursor:
        cursor.itersize = 2000
        cursor.execute(
            'select object_id collate "C" as k, seq, change, before, after'
            " from events.change_events where connection_id = %s and resource = %s"
            " order by k, seq desc",
            (connection_id, resource.name),
        )
        yield from cursor


def _check_resource(
    connection: Connection,
    connection_id: int,
    resource: Resource,
    leaving: frozenset[str],
    found: Verification,
) -> None:
    shape = shape_of(resource)
    rows = _rows(connection, connection_id, resource)
    row = next(rows, None)
    live = 0
    for key, events in groupby(_events(connection, connection_id, resource), lambda e: e[0]):
        if MARK in key or not leaving.isdisjoint(key.split("/")):
            found.erased += sum(1 for _ in events)
            continue
        while row is not None and row[0] < key:
            _check_untold(resource, row, found)
            live += row[2]
            row = next(rows, None)
        state: State = None
        if row is not None and row[0] == key:
            if row[2]:
                state = msgspec.json.decode(shape.json(row[1]))
                _check_hash(resource, row, found)
                live += 1
            row = next(rows, None)
        _undo(resource, key, state, events, found)
    while row is not None:
        _check_untold(resource, row, found)
        live += row[2]
        row = next(rows, None)
    found.by_resource[resource.name] = live
    found.rows += live


def _check_hash(resource: Resource, row: Any, found: Verification) -> None:
    if resource.kind is Kind.EDGE or (row[3] and not row[3].startswith(HASH_VERSION)):
        return  # the recipe of an earlier release; the next full walk makes it anew
    if row[3] != shape_of(resource).hash(row[1]):
        found.complain(f"{resource.name} {row[0]}: its content is not what its hash says")


def _check_untold(resource: Resource, row: Any, found: Verification) -> None:
    """A live row without any event, although the history is whole."""
    if row[2] and found.whole_history:
        found.complain(f"{resource.name} {row[0]}: it is live, but no event tells of it")


def _undo(
    resource: Resource, key: str, state: State, events: Iterator[Any], found: Verification
) -> None:
    where = f"{resource.name} {key}"
    for _, seq, change, before, after in events:
        problem, state = undone(change, state, before, after)
        if problem:
            found.complain(f"{where}: event {seq} {problem}")
            return
    if state is not None and found.whole_history:
        found.complain(f"{where}: it was live before its first event")
