"""Verification of events against rows: undo events from the current rows and check that each fits.

It reads one database snapshot, object by object, so that memory stays constant. It also reports
gaps in the sequence, rows without history, and rows whose content does not match their hash.
Objects that were or are being erased are skipped: their events no longer hold their content. So are
columns in events that do not tell them yet, and events of a resource from before it was last
switched off (``coverage.py``). Closures are compared with what the edges make.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count, groupby
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy import text

from models.base import DIRECTORY
from models.closure import NESTED_EDGES, get_closure_name
from models.erasure import ERASED_PREFIX
from models.resource import OWNER, Resource
from models.resources import RESOURCES
from worker.events.coverage import load_coverage
from worker.events.undo import ObjectState, undo_event
from worker.rows.hash import HASH_VERSION
from worker.rows.shape import get_shape
from worker.store.engine import get_driver_connection
from worker.store.mirror.nesting import count_wrong_pairs
from worker.store.state.erasures import list_ids_being_erased
from worker.store.state.unresolved import summarize_unresolved

OnEvents = Callable[[int, int, str], None]
"""Called now and then with the number of checked events, of all, and their resource."""

_EVENTS_A_REPORT: Final = 1000

MAX_PROBLEMS: Final = 20
"""Problems that are listed; the rest are only counted."""

_SEQUENCE_STATS = text("""
    with told as materialized (
         select resource, count(*) as number, min(seq) as first, max(seq) as last,
                min(occurred_at) as oldest
           from events.change_events where connection_id = :id group by resource)
    select coalesce(sum(number), 0)::bigint as number, min(first) as first, max(last) as last,
           min(oldest) as oldest, coalesce(array_agg(resource), '{}') as resources,
           (select event_seq from sync.leases where connection_id = :id) as counted
      from told
""")
_STORED = text(
    " union all ".join(
        f"select '{name}' where exists (select from {DIRECTORY}.{name} where {OWNER} = :id)"
        for name in RESOURCES
    )
)


@dataclass
class Verification:
    """The result: what was checked, and the problems found."""

    rows: int = 0
    events: int = 0
    first_seq: int | None = None
    last_seq: int | None = None
    oldest_at: datetime | None = None
    by_resource: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    problem_count: int = 0
    erased: int = 0
    """Events that were skipped because their objects were erased."""
    unresolved: dict[str, str] = field(default_factory=dict)
    """Parts that may differ from the tenant because Graph does not answer for them; no problem."""

    @property
    def has_whole_history(self) -> bool:
        """Whether all events since the first are stored."""
        return self.first_seq in (None, 1)

    def add_problem(self, problem: str) -> None:
        self.problem_count += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem)


def ignore_events(_done: int, _total: int, _resource: str) -> None:
    """Ignore the progress of a verification."""


def verify(
    db: sa.Connection, connection_id: int, on_events: OnEvents = ignore_events
) -> Verification:
    """Check a connection's events against its rows."""
    db.execute(text("set transaction isolation level repeatable read, read only"))
    db.execute(text("set local statement_timeout = 0"))
    result = Verification()
    leaving, coverage = list_ids_being_erased(db, connection_id), load_coverage(db, connection_id)
    told = _check_sequence(db, connection_id, result)
    stored = set(db.execute(_STORED, {"id": connection_id}).scalars())
    result.unresolved = summarize_unresolved(db, connection_id).get(connection_id, {})
    done = count(1)

    def count_events(resource: Resource) -> Iterator[Any]:
        if resource.name not in told:
            return
        find_untold, since = coverage[resource.name].find_untold, coverage[resource.name].off_seq
        for event in _stream_events(db, connection_id, resource, since):
            yield (*event, find_untold(event[1]))
            number = next(done)
            if number % _EVENTS_A_REPORT == 0:
                on_events(number, result.events, resource.name)

    for resource in RESOURCES.values():
        is_read = coverage[resource.name].is_on and resource.name in stored
        rows = _stream_rows(db, connection_id, resource) if is_read else iter(())
        _check_resource(resource, rows, count_events(resource), leaving, result)
    for edge in NESTED_EDGES:
        if wrong := count_wrong_pairs(db, connection_id, edge):
            result.add_problem(
                f"{get_closure_name(edge)}: {wrong:,} pairs are not as {edge.name} makes them;"
                f" a full resync of {edge.parent} computes them anew"
            )
    return result


def _check_sequence(db: sa.Connection, connection_id: int, result: Verification) -> set[str]:
    """Check that no number is missing; return the resources that there are events about."""
    row = db.execute(_SEQUENCE_STATS, {"id": connection_id}).one()
    result.events, result.oldest_at = row.number, row.oldest
    result.first_seq, result.last_seq = row.first, row.last
    if row.number and row.number != row.last - row.first + 1:
        missing = row.last - row.first + 1 - row.number
        result.add_problem(f"the sequence {row.first} to {row.last} lacks {missing} events")
    if (row.counted or 0) != (row.last or 0):
        result.add_problem(f"the counter is {row.counted}, the last event at {row.last}")
    return set(row.resources)


def _build_key_sql(resource: Resource) -> str:
    return " || '/' || ".join(f"{name}::text" for name in resource.key)


def _stream_rows(
    db: sa.Connection, connection_id: int, resource: Resource
) -> Iterator[tuple[str, Any, bool, bytes | None]]:
    columns = ", ".join(f'"{name}"' for name in resource.column_names)
    statement = (
        f'select ({_build_key_sql(resource)}) collate "C" as k,'
        f" deleted_at is null, row_hash, {columns}"
        f" from {DIRECTORY}.{resource.name} where {OWNER} = %s order by k"
    )
    with get_driver_connection(db).cursor(name=f"rows_{resource.name}") as cursor:
        cursor.itersize = 2000
        cursor.execute(statement, (connection_id,))
        for row in cursor:
            yield row[0], row[3:], row[1], row[2]


def _stream_events(
    db: sa.Connection, connection_id: int, resource: Resource, since: int
) -> Iterator[tuple[str, int, str, Any, Any]]:
    with get_driver_connection(db).cursor(name=f"events_{resource.name}") as cursor:
        cursor.itersize = 2000
        cursor.execute(
            'select object_id collate "C" as k, seq, change, before, after'
            " from events.change_events where connection_id = %s and resource = %s"
            " and seq > %s order by k, seq desc",
            (connection_id, resource.name, since),
        )
        yield from cursor


def _check_resource(
    resource: Resource,
    rows: Iterator[Any],
    all_events: Iterator[Any],
    erasing: frozenset[str],
    result: Verification,
) -> None:
    shape = get_shape(resource)
    row = next(rows, None)
    live = 0
    for key, events in groupby(all_events, lambda e: e[0]):
        if ERASED_PREFIX in key or not erasing.isdisjoint(key.split("/")):
            result.erased += sum(1 for _ in events)
            continue
        while row is not None and row[0] < key:
            _check_has_event(resource, row, result)
            live += row[2]
            row = next(rows, None)
        state: ObjectState = None
        if row is not None and row[0] == key:
            if row[2]:
                state = msgspec.json.decode(shape.encode_json(row[1]))
                _check_hash(resource, row, result)
                live += 1
            row = next(rows, None)
        _check_events(resource, key, state, events, result)
    while row is not None:
        _check_has_event(resource, row, result)
        live += row[2]
        row = next(rows, None)
    result.by_resource[resource.name] = live
    result.rows += live


def _check_hash(resource: Resource, row: Any, result: Verification) -> None:
    if resource.is_edge or (row[3] and not row[3].startswith(HASH_VERSION)):
        return  # an earlier release's hash version; the next full walk renews it
    if row[3] != get_shape(resource).hash_row(row[1]):
        result.add_problem(f"{resource.name} {row[0]}: its content does not match its hash")


def _check_has_event(resource: Resource, row: Any, result: Verification) -> None:
    """Report a live row without any event, if the history is complete."""
    if row[2] and not resource.has_events:
        _check_hash(resource, row, result)
    if row[2] and resource.has_events and result.has_whole_history:
        result.add_problem(f"{resource.name} {row[0]}: it is live, but has no event")


def _check_events(
    resource: Resource, key: str, state: ObjectState, events: Iterator[Any], result: Verification
) -> None:
    where = f"{resource.name} {key}"
    for _, seq, change, before, after, untold in events:
        problem, state = undo_event(change, state, before, after, untold)
        if problem:
            result.add_problem(f"{where}: event {seq} {problem}")
            return
    if state is not None and result.has_whole_history:
        result.add_problem(f"{where}: it was live before its first event")
