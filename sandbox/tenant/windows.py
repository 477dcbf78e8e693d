"""A budget for a window of fixed length, which the first call after the last window opens."""

from math import ceil
from time import monotonic


class Window:
    """What was spent of a budget, and when it begins anew."""

    def __init__(self) -> None:
        self._ends = 0.0
        self.spent = 0

    def turn(self, length: float) -> None:
        """Begin a new window if the last one is over, or longer than windows are by now."""
        now = monotonic()
        if not now < self._ends <= now + length:
            self._ends, self.spent = now + length, 0

    @property
    def left(self) -> float:
        """Seconds until the window ends."""
        return max(self._ends - monotonic(), 0.0)

    @property
    def whole_seconds_left(self) -> int:
        return max(ceil(self.left), 1)
