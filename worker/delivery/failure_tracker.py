"""Decide whether an event or the receiver is at fault: pause one connection or the whole sink."""

from typing import Final

from worker.core.errors import EventFailed, EventRefused, MirrorError

MIN_BACKOFF_SECONDS: Final = 5.0
MAX_BACKOFF_SECONDS: Final = 3_600.0
RETRY_SPACING_SECONDS: Final = 0.5
"""Average seconds between two retries of one sink's refused events, however many there are."""
MAX_NEW_REFUSALS: Final = 5
"""Connections refused for the first time, one after another, before the whole sink waits."""


def compute_refusal_backoff(
    failures: int, refused: int, after: float | None, chance: float
) -> float:
    """Return the seconds until a refused event is retried.

    ``failures`` counts its refusals in a row, ``refused`` the sink's connections that wait like
    this, ``after`` is the pause that the receiver asked for, ``chance`` is 0 to 1.
    """
    growing = min(MAX_BACKOFF_SECONDS, MIN_BACKOFF_SECONDS * 2.0 ** min(failures - 1, 16))
    return max(after or 0.0, growing, refused * RETRY_SPACING_SECONDS) * (1 + chance / 4)


class FailureTracker:
    """Tracks how one sink's receiver handled the latest events."""

    def __init__(self) -> None:
        self._failed_event_id = ""
        self._failed_connection_id = 0
        self._others_delivered = False
        self._newly_refused: set[int] = set()

    def record_delivered(self, connection_id: int) -> None:
        """Record that the receiver took an event of a connection."""
        self._newly_refused.clear()
        if connection_id != self._failed_connection_id:
            self._others_delivered = True

    def is_event_at_fault(
        self,
        error: MirrorError,
        event_id: str,
        connection_id: int,
        *,
        was_refused: bool,
        is_only_connection: bool,
    ) -> bool:
        """Whether the event is at fault, so that only its connection waits.

        ``is_only_connection`` means that no other has a backlog. A receiver that fails (500, no
        answer) at an event that it refused before, or at the same event twice while it took events
        of others in between, fails because of the event. Without others, pausing the connection
        loses nothing: they may come.
        """
        if isinstance(error, EventRefused):
            return True
        if not isinstance(error, EventFailed):
            return False
        if was_refused or (
            event_id == self._failed_event_id and (self._others_delivered or is_only_connection)
        ):
            return True
        self._failed_event_id, self._failed_connection_id, self._others_delivered = (
            event_id,
            connection_id,
            False,
        )
        return False

    def is_receiver_at_fault(self, connection_id: int, *, was_refused: bool) -> bool:
        """Whether so many events were refused for the first time that the receiver is at fault.

        Called for each refused event.
        """
        if not was_refused:
            self._newly_refused.add(connection_id)
        return not was_refused and len(self._newly_refused) >= MAX_NEW_REFUSALS
