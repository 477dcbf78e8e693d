"""A budget for windows of fixed length; the first call after a window opens the next one."""

from math import ceil
from time import monotonic


class BudgetWindow:
    """The spent part of a budget, and when it resets."""

    def __init__(self) -> None:
        self._ends = 0.0
        self.spent = 0

    def renew_if_over(self, length: float) -> None:
        """Begin a new window if the last one is over, or longer than `length`."""
        now = monotonic()
        if not now < self._ends <= now + length:
            self._ends, self.spent = now + length, 0

    @property
    def seconds_left(self) -> float:
        """Seconds until the window ends."""
        return max(self._ends - monotonic(), 0.0)

    @property
    def retry_after(self) -> int:
        return max(ceil(self.seconds_left), 1)
