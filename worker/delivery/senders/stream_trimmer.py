"""Keep a Redis stream within a number of bytes: a limit on entries does not bound their size."""

from collections.abc import Callable
from typing import Any, Final

PENDING_BYTES: Final = 100
"""Approximate bytes that a consumer group takes for each unacknowledged entry.

They are no event's content, and trimming would not free them.
"""
_MEASURE_FRACTION: Final = 16
"""The stream is measured after this fraction (1/16) of its bytes was added."""
_MAX_TRIMS: Final = 20
"""Most trims in a row: the oldest entries may be smaller than the average."""


class StreamTrimmer:
    """Makes room in streams before events are added."""

    def __init__(self, most: int) -> None:
        self._max_bytes = most
        self._step = most // _MEASURE_FRACTION
        self._added_bytes: dict[str, int] = {}
        """Bytes added to each stream since it was measured."""

    def make_room(self, execute: Callable[..., Any], stream: str, size: int) -> None:
        """Trim the oldest entries if ``size`` more bytes would exceed the limit.

        ``execute`` sends a command to Redis and returns its answer; its errors propagate.
        """
        added = self._added_bytes.get(stream)
        if added is not None and added + size <= self._step:
            self._added_bytes[stream] = added + size
            return
        self._trim(execute, stream, max(0, self._max_bytes - self._step - size))
        self._added_bytes[stream] = size

    def _trim(self, ask: Callable[..., Any], stream: str, room: int) -> None:
        for _ in range(_MAX_TRIMS):
            used = _measure_bytes(ask, stream)
            if used <= room:
                return
            length = ask("XLEN", stream)
            # Each trim keeps a tenth less than the average size suggests, so that it converges.
            keep = length * room * 9 // (used * 10)
            ask("XTRIM", stream, "MAXLEN", "=", keep)


def _measure_bytes(ask: Callable[..., Any], stream: str) -> int:
    """Return the bytes of a stream's entries; 0 if there are none."""
    used = ask("MEMORY", "USAGE", stream, "SAMPLES", 0)
    if not isinstance(used, int) or used < PENDING_BYTES:
        return 0
    groups = ask("XINFO", "GROUPS", stream)
    return max(0, used - PENDING_BYTES * sum(map(_count_pending, groups)))


def _count_pending(group: Any) -> int:
    """Return a group's pending entries; Redis describes it as a list, or as a map with RESP3."""
    if isinstance(group, dict):
        return int(group[b"pending"])
    return int(group[group.index(b"pending") + 1])
