"""The newest changes of a connection: a bounded look, however many events it has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from worker.events.changes import ChangeCount
from worker.events.event import Event
from worker.events.object_names import load_object_names
from worker.events.read import EVENT_COLUMNS
from worker.store.engine import get_driver_connection

SCANNED_EVENTS: Final = 5000
"""Most events that are looked at, the newest."""
RECENT_DAYS: Final = 7
_LISTED: Final = 12

# Event times have no index, so the number of the last event bounds the search; the time lets
# Postgres skip the partitions of earlier months.
_WINDOW: Final = f"""
      from events.change_events
     where connection_id = %(id)s
       and seq > (select event_seq from sync.leases where connection_id = %(id)s) - {SCANNED_EVENTS}
       and occurred_at >= clock_timestamp() - interval '{RECENT_DAYS} days'
"""
_COUNT: Final = f"""
    select resource, change, count(*) filter (where not initial), count(*) {_WINDOW}
     group by resource, change order by resource, change
"""
_LIST: Final = f"""
    select {EVENT_COLUMNS} {_WINDOW} and not initial order by seq desc limit {_LISTED}
"""


@dataclass(frozen=True)
class RecentChanges:
    """Changes of the last days, without what first loads created."""

    counts: Sequence[ChangeCount]
    """By resource and change."""
    is_cut: bool
    """Whether there are earlier events in these days, which were not looked at."""
    events: Sequence[Event]
    """The newest of them, newest first."""
    names: Mapping[str, str]
    """Current names of the objects that the events mention, by id."""


def load_recent_changes(db: sa.Connection, connection_id: int) -> RecentChanges:
    """Return the changes among the newest events of the last days. Three statements."""
    values = {"id": connection_id}
    found = _select(db, _COUNT, values)
    counts = [ChangeCount(*row[:3]) for row in found if row[2]]
    events = [Event(*row) for row in _select(db, _LIST, values)] if counts else []
    names = load_object_names(db, connection_id, events)
    scanned = sum(row[3] for row in found)
    return RecentChanges(counts, scanned >= SCANNED_EVENTS, events, names)


def _select(db: sa.Connection, statement: str, values: dict[str, Any]) -> list[Any]:
    with get_driver_connection(db).cursor() as cursor:
        cursor.execute(statement.encode(), values)
        return cursor.fetchall()
