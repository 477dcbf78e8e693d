"""Reading change events on, for delivery."""

from typing import Final

import sqlalchemy as sa

from worker.store.engine import force_index_scans, get_driver_connection
from worker.store.sinks import Event, Position, Sink

EVENT_COLUMNS: Final = """
    connection_id, seq, occurred_at, event_id::text, resource, object_id, change, changed,
    before::text, after::text, initial
"""
"""Of an event as it is told."""
_EVENTS: Final = f"""
    select {EVENT_COLUMNS}
      from events.change_events
     where connection_id = %(id)s and seq > %(seq)s {{since}}
     order by seq limit %(limit)s
"""
_AFTER_SEQ: Final = _EVENTS.format(since="").encode()
_AFTER_SEQ_AND_TIME: Final = _EVENTS.format(since="and occurred_at >= %(at)s").encode()
"""No later event is earlier, so Postgres leaves out the months before."""


def read_sink_events(
    db: sa.Connection, sink: Sink, after: Position, limit: int, *, initial: bool = True
) -> tuple[list[Event], Position]:
    """The next events that the sink wants, in order, and the position behind all that was read.

    Whoever has read a connection's ``event_seq`` before sees every event up to it: both were
    committed together. The position stays where it is if no event is left. ``initial`` says whether
    the connection lets the events of its first loads out; the sink must want them, too.
    """
    found = read_events_after(db, after, limit)
    if not found:
        return [], after
    wanted = found
    if not (sink.wants_all and initial):
        wanted = [told for told in found if sink.wants(told) and (initial or not told.initial)]
    return wanted, Position(after.connection_id, found[-1].seq, found[-1].occurred_at)


def read_events_after(db: sa.Connection, after: Position, limit: int) -> list[Event]:
    """The next events of a connection, in order."""
    values = {"id": after.connection_id, "seq": after.seq, "at": after.occurred_at, "limit": limit}
    force_index_scans(db)
    with get_driver_connection(db).cursor() as cursor:
        cursor.execute(_AFTER_SEQ if after.occurred_at is None else _AFTER_SEQ_AND_TIME, values)
        return [Event(*row) for row in cursor.fetchall()]
