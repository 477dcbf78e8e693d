"""What changed in one connection within a time: counts, and the objects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from worker.core.errors import InvalidInput
from worker.events.event import Event
from worker.events.filter import EventFilter
from worker.events.object_names import load_object_names
from worker.events.read import EVENT_COLUMNS
from worker.events.resolve_start import resolve_start, resolve_time
from worker.events.start import FromAge, FromTime
from worker.store.engine import get_driver_connection
from worker.store.planner import force_index_scans

_RANGE: Final = """
      from events.change_events
     where connection_id = %(id)s and seq >= %(start)s and occurred_at >= %(since)s
       and (%(until)s::timestamptz is null or occurred_at < %(until)s)
       and (%(resources)s::text[] is null or resource = any (%(resources)s::text[]))
       and (%(changes)s::text[] is null or change = any (%(changes)s::text[]))
       and (%(initial)s or not initial)
"""
_COUNT: Final = f"""
    select resource, change, count(*) {_RANGE} group by resource, change
     order by resource, change
""".encode()
_LIST: Final = f"""
    select {EVENT_COLUMNS} {_RANGE} and (%(before)s::bigint is null or seq < %(before)s)
     order by seq desc limit %(limit)s
""".encode()


class ChangeCount(NamedTuple):
    resource: str
    change: str
    number: int


@dataclass(frozen=True)
class ChangeList:
    """Changes of a connection since a time."""

    since: datetime
    until: datetime | None
    counts: Sequence[ChangeCount]
    """By resource and change, all of them."""
    events: Sequence[Event]
    """The newest of them, newest first."""
    names: Mapping[str, str]
    """Current names of the objects that the events mention, by id."""

    @property
    def number(self) -> int:
        return sum(one.number for one in self.counts)


def load_changes(
    db: sa.Connection,
    connection_id: int,
    since: FromTime | FromAge,
    *,
    until: FromTime | FromAge | None = None,
    only: EventFilter = EventFilter(with_initial=False),  # noqa: B008 - it is frozen
    limit: int,
    before: int | None = None,
) -> ChangeList:
    """Return the changes since a time; with ``before``, the list goes on before that number.

    Raises InvalidInput if the time is in the future, or not before ``until``.
    """
    began = resolve_time(db, since)
    end = None if until is None else resolve_time(db, until)
    if end is not None and end <= began:
        raise InvalidInput("the end of the time must be after its beginning")
    starts = resolve_start(db, FromTime(began), [connection_id])
    if not starts:  # it has had no event yet
        return ChangeList(began, end, [], [], {})
    values = {
        **only.parameters,
        "id": connection_id,
        "start": starts[0].start,
        "since": began,
        "until": end,
    }
    counts = [ChangeCount(*row) for row in _select(db, _COUNT, values)]
    rows = _select(db, _LIST, {**values, "before": before, "limit": limit}) if limit else []
    events = [Event(*row) for row in rows]
    return ChangeList(began, end, counts, events, load_object_names(db, connection_id, events))


def _select(db: sa.Connection, statement: bytes, values: dict[str, Any]) -> list[Any]:
    force_index_scans(db)
    with get_driver_connection(db).cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall()
