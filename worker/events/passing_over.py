"""Passing over an event that a receiver refuses, because an operator wants it so."""

from worker.core.errors import Busy, Unknown
from worker.events.reading import read_events
from worker.events.snapshot import read_page
from worker.store.engine import Database
from worker.store.refusals import Refused, pass_over
from worker.store.sinks import Position, Told


def refused_event(database: Database, refused: Refused) -> tuple[Told, Position]:
    """The event, and the position behind it. Raises Unknown where it is not there any more."""
    position = refused.waiting.position
    while position.snapshot is not None or position.seq < refused.waiting.event_seq:
        before = position
        with database.begin() as connection:
            if position.snapshot is None:
                initial = refused.waiting.initial
                told, position = read_events(connection, refused.sink, position, 1, initial=initial)
            else:
                told, position = read_page(connection, refused.sink, position, 1)
        if told:
            if told[0].event_id == refused.event_id:
                return told[0], position
            break
        if position == before:
            break
    raise Unknown(
        f"event {refused.event_id} is not the next of its connection any more; "
        f"'tenant-mirror sinks show {refused.sink.name}' says what is refused now"
    )


def skip(database: Database, refused: Refused, behind: Position) -> None:
    """Move the position behind the refused event. Raises Busy where something moved meanwhile."""
    with database.begin() as connection:
        if not pass_over(connection, refused, behind):
            raise Busy(f"sink '{refused.sink.name}' went on meanwhile; look again")
