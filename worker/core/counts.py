"""Increments of counters that wait for the transaction that stores them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Lock

CounterKey = tuple[str, tuple[str, ...]]
"""Name of a counter and the values of its labels."""

Increments = Mapping[CounterKey, float]


class Counts:
    """Increments of counters. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._values: dict[CounterKey, float] = {}

    def add(self, name: str, *labels: str, value: float = 1.0) -> None:
        if value > 0:
            self.add_all({(name, labels): value})

    def add_all(self, increments: Increments) -> None:
        with self._lock:
            for key, value in increments.items():
                self._values[key] = self._values.get(key, 0.0) + value

    def take(self) -> dict[CounterKey, float]:
        """Return all increments, and forget them."""
        with self._lock:
            taken, self._values = self._values, {}
        return taken

    @contextmanager
    def hand_over(self) -> Iterator[Increments]:
        """Yield all increments to a block that stores them; keep them if it raises."""
        taken = self.take()
        try:
            yield taken
        except BaseException:
            self.add_all(taken)
            raise
