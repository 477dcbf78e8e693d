"""Reads that many requests want at the same time: the database is asked once a second for all."""

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from threading import Lock
from typing import Final, TypeVar, cast

FRESH_SECONDS: Final = 1.0
_MAX_KEPT: Final = 200

Read = TypeVar("Read")


@dataclass
class _Kept:
    lock: Lock = field(default_factory=Lock)
    read_at: float = float("-inf")
    value: object = None


class SharedReads:
    """Keeps what was read within the last second. Safe to use from several threads.

    Those who ask for the same at the same time wait for one of them. What is kept is never changed.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        self._kept: dict[Hashable, _Kept] = {}

    def get(
        self, key: Hashable, read: Callable[[], Read], *, seconds: float = FRESH_SECONDS
    ) -> Read:
        """Return what ``read`` returned for this key within so many seconds, or read it now."""
        kept = self._find(key)
        with kept.lock:
            begun = self._clock()
            if begun - kept.read_at >= seconds:
                kept.value = read()
                kept.read_at = begun
            return cast(Read, kept.value)

    def clear(self) -> None:
        """Let the next requests read again."""
        with self._lock:
            self._kept.clear()

    def _find(self, key: Hashable) -> _Kept:
        with self._lock:
            kept = self._kept.pop(key, None) or _Kept()
            self._kept[key] = kept
            while len(self._kept) > _MAX_KEPT:
                del self._kept[next(iter(self._kept))]
            return kept
