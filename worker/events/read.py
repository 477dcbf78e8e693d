"""Reading of change events after a position, for delivery."""

from typing import Final

import sqlalchemy as sa

from worker.events.event import Event, Position
from worker.store.engine import get_driver_connection
from worker.store.planner import force_index_scans

EVENT_COLUMNS: Final = """
    connection_id, seq, occurred_at, event_id::text, resource, object_id, change, changed,
    before::text, after::text, initial
"""
"""Columns of an ``Event``."""
_EVENTS: Final = f"""
    select {EVENT_COLUMNS}
      from events.change_events
     where connection_id = %(id)s and seq > %(seq)s {{since}}
     order by seq limit %(limit)s
"""
_AFTER_SEQ: Final = _EVENTS.format(since="").encode()
_AFTER_SEQ_AND_TIME: Final = _EVENTS.format(since="and occurred_at >= %(at)s").encode()
"""Later events never have earlier times, so Postgres skips the partitions of earlier months."""


def read_events_after(db: sa.Connection, after: Position, limit: int) -> list[Event]:
    """Return the next events of a connection, in order."""
    values = {"id": after.connection_id, "seq": after.seq, "at": after.occurred_at, "limit": limit}
    force_index_scans(db)
    with get_driver_connection(db).cursor() as cursor:
        cursor.execute(_AFTER_SEQ if after.occurred_at is None else _AFTER_SEQ_AND_TIME, values)
        return [Event(*row) for row in cursor.fetchall()]
