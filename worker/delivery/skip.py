"""Skip an event that a receiver refuses, at an operator's request."""

from worker.core.errors import LeaseHeld, NotFound
from worker.delivery.store.read import read_sink_events
from worker.delivery.store.refusals import Refusal, skip_refused
from worker.delivery.store.snapshot import read_snapshot_page
from worker.events.event import Event, Position
from worker.store.engine import Database


def read_refused_event(database: Database, refused: Refusal) -> tuple[Event, Position]:
    """Return the event and the position after it. Raises NotFound if it is not next any more."""
    position = refused.backlog.position
    while position.snapshot is not None or position.seq < refused.backlog.event_seq:
        before = position
        with database.open_transaction() as db:
            if position.snapshot is None:
                initial = refused.backlog.allows_initial
                events, position = read_sink_events(db, refused.sink, position, 1, initial=initial)
            else:
                events, position = read_snapshot_page(db, refused.sink, position, 1)
        if events:
            if events[0].event_id == refused.event_id:
                return events[0], position
            break
        if position == before:
            break
    raise NotFound(
        f"event {refused.event_id} is no longer the next event of its connection; "
        f"'tenant-mirror sinks show {refused.sink.name}' says what is refused now"
    )


def skip_refused_event(database: Database, refused: Refusal, position: Position) -> None:
    """Advance the position past the refused event.

    Raises LeaseHeld if a position changed meanwhile.
    """
    with database.open_transaction() as db:
        if not skip_refused(db, refused, position):
            raise LeaseHeld(
                f"sink '{refused.sink.name}' continued meanwhile; run the command again"
            )
