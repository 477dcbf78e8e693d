"""Starts processes that measure themselves, and measures those of the servers meanwhile."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmarks.meter import Figures

ROOT = Path(__file__).resolve().parent.parent
_TICKS = os.sysconf("SC_CLK_TCK")


class MeasurementFailed(Exception):
    """A measured program failed; the message is the end of its output."""


def build_variables(**more: str) -> dict[str, str]:
    """Return a short environment without the caller's settings."""
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG", "TMPDIR")}
    return {**kept, "PYTHONPATH": str(ROOT), **more}


def run_measured(
    module: str,
    asked: Mapping[str, Any],
    *,
    env: Mapping[str, str] | None = None,
    python: str = sys.executable,
    timeout: float = 1800,
) -> Figures:
    """Run a program in its own process; return its figures. Raises MeasurementFailed."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        out = Path(folder) / "figures.json"
        try:
            done = subprocess.run(
                [python, "-m", module, str(out), json.dumps(dict(asked))],
                env=dict(env or build_variables()),
                cwd=folder,
                capture_output=True,
                text=True,
                check=False,
                timeout=timeout,
            )
        except subprocess.TimeoutExpired:
            raise MeasurementFailed(f"{module} was not done within {timeout:.0f} s") from None
        if done.returncode != 0 or not out.exists():
            said = (done.stderr.strip() or done.stdout.strip())[-1500:]
            raise MeasurementFailed(f"{module} ended with {done.returncode}: {said}")
        figures: Figures = json.loads(out.read_text(encoding="utf-8"))
        return figures


def read_processor_seconds(pid: int, *, family: bool = False) -> float:
    """Return the processor time of a process and its ended children; `family` adds living ones."""
    total = 0.0
    with suppress(OSError):
        status = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        fields = status.rpartition(")")[2].split()
        total = sum(map(int, fields[11:15])) / _TICKS
    if family:
        total += sum(read_processor_seconds(child, family=True) for child in list_children(pid))
    return total


def list_children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                found += map(int, (task / "children").read_text(encoding="ascii").split())
    return found


def read_peak_of(pid: int) -> float:
    """Return the peak memory of a living process, in MB."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0


def read_child_peaks(pid: int) -> list[float]:
    """Return the peak memory of each living child, in MB."""
    return [read_peak_of(child) for child in list_children(pid)]


@contextmanager
def measure_processors(pids: Mapping[str, int]) -> Iterator[Figures]:
    """Measure the processor time of each of these process families during the block."""
    before = {name: read_processor_seconds(pid, family=True) for name, pid in pids.items()}
    figures: Figures = {}
    yield figures
    for name, pid in pids.items():
        figures[f"{name}_cpu"] = read_processor_seconds(pid, family=True) - before[name]


def wait_until(holds: Any, seconds: float, what: str, pause: float = 0.05) -> None:
    """Wait until `holds` returns true. Raises MeasurementFailed after `seconds`."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise MeasurementFailed(f"{what}: not within {seconds:.0f} s")
        time.sleep(pause)
