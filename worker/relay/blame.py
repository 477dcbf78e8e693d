"""Whether a connection waits because of an event, or the whole sink because of its receiver."""

from typing import Final

from worker.core.errors import EventFailed, EventRefused, Trouble

SHORTEST_PAUSE: Final = 5.0
LONGEST_PAUSE: Final = 3_600.0
SPACING: Final = 0.5
"""Seconds between two tries of refused events of one sink, on average, however many there are."""
IN_A_ROW: Final = 5
"""Connections refused for the first time, one after another, before the sink itself waits, too."""


def refusal_pause(failures: int, refused: int, after: float | None, chance: float) -> float:
    """Seconds until a refused event is tried again.

    ``failures`` in a row are its own, ``refused`` connections of the sink wait like that,
    ``after`` is what the receiver asked for, ``chance`` is 0 to 1.
    """
    growing = min(LONGEST_PAUSE, SHORTEST_PAUSE * 2.0 ** min(failures - 1, 16))
    return max(after or 0.0, growing, refused * SPACING) * (1 + chance / 4)


class Blame:
    """What one sink's receiver did with the last events."""

    def __init__(self) -> None:
        self._failed_at = ""
        self._owner = 0
        self._others_taken = False
        self._new: set[int] = set()

    def delivered(self, connection_id: int) -> None:
        """The receiver took something of a connection."""
        self._new.clear()
        if connection_id != self._owner:
            self._others_taken = True

    def is_of_event(
        self,
        trouble: Trouble,
        event_id: str,
        connection_id: int,
        *,
        was_refused: bool,
        alone: bool,
    ) -> bool:
        """Whether only the connection waits; ``alone`` says that no other has anything to deliver.

        A receiver that fails (500, no answer) at an event that it refused before, or at the same
        event twice and took events of others in between, fails because of the event. Where there
        are no others nothing is lost by letting the connection wait: they may come.
        """
        if isinstance(trouble, EventRefused):
            return True
        if not isinstance(trouble, EventFailed):
            return False
        if was_refused or (event_id == self._failed_at and (self._others_taken or alone)):
            return True
        self._failed_at, self._owner, self._others_taken = event_id, connection_id, False
        return False

    def refuses_everybody(self, connection_id: int, *, was_refused: bool) -> bool:
        """Whether so many were refused for the first time in a row that the receiver is at fault.

        Called for each event that is refused.
        """
        if not was_refused:
            self._new.add(connection_id)
        return not was_refused and len(self._new) >= IN_A_ROW
