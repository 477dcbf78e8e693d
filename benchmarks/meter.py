"""Measures time, processor and memory. Standard library only, as the peers use it, too."""

import gc
import json
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

Figures = dict[str, Any]


class Meter:
    """Measures a ``with`` block in its own process; `figures` holds the result."""

    def __init__(self) -> None:
        self.figures: Figures = {}

    def __enter__(self) -> Self:
        gc.collect()
        self._times, self._start = os.times(), time.perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        seconds, now, before = time.perf_counter() - self._start, os.times(), self._times
        cpu = sum(now[:4]) - sum(before[:4])
        self.figures = {"seconds": seconds, "cpu": cpu, "peak_mb": read_peak_memory()}


def read_peak_memory() -> float:
    """Return the peak memory of this process.

    Not from `getrusage`, which starts with the parent's memory.
    """
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0


def read_arguments() -> Figures:
    """Return the runner's arguments: JSON in the second argument of the program."""
    asked: Figures = json.loads(sys.argv[2])
    return asked


def write_figures(figures: Figures, to: str | None = None) -> None:
    """Write the figures for the runner into the file that the first argument names."""
    Path(to or sys.argv[1]).write_text(json.dumps(figures), encoding="utf-8")
