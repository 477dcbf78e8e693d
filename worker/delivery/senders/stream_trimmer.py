"""Keeps a Redis stream within a number of bytes: a bound on entries says nothing of their size."""

from collections.abc import Callable
from typing import Any, Final

PENDING_BYTES: Final = 100
"""What a consumer group takes for each entry that was read and not acknowledged, about. That is no
event's content, and trimming would not free it."""
_MEASURE_FRACTION: Final = 16
"""The stream is measured whenever so large a part of its bytes was added."""
_MAX_TRIMS: Final = 20
"""The oldest entries may be smaller than the average, so trimming may have to be repeated."""


class StreamTrimmer:
    """Makes room in streams before events are added to them."""

    def __init__(self, most: int) -> None:
        self._max_bytes = most
        self._step = most // _MEASURE_FRACTION
        self._added_bytes: dict[str, int] = {}
        """Bytes that were added to a stream since it was measured."""

    def make_room(self, execute: Callable[..., Any], stream: str, size: int) -> None:
        """Trim the oldest entries where ``size`` bytes more would be too many.

        ``execute`` sends a command to Redis and returns its answer; what it raises passes.
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
            # Each round leaves a tenth less than the average entry says, so it comes to an end.
            keep = length * room * 9 // (used * 10)
            ask("XTRIM", stream, "MAXLEN", "=", keep)


def _measure_bytes(ask: Callable[..., Any], stream: str) -> int:
    """Bytes of a stream's entries; 0 where there is none."""
    used = ask("MEMORY", "USAGE", stream, "SAMPLES", 0)
    if not isinstance(used, int) or used < PENDING_BYTES:
        return 0
    groups = ask("XINFO", "GROUPS", stream)
    return max(0, used - PENDING_BYTES * sum(map(_count_pending, groups)))


def _count_pending(group: Any) -> int:
    """Of a group as Redis describes it: names and values in turn, or a map where RESP3 is used."""
    if isinstance(group, dict):
        return int(group[b"pending"])
    return int(group[group.index(b"pending") + 1])
