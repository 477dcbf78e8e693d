"""Other tools with the same task, each installed in its own environment."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.meter import Figures
from benchmarks.processes import MeasurementFailed, run_measured

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = HERE.parent / ".venv-peers"


class Peers:
    """Runs the peers, and installs missing ones, once for each version of a requirements file."""

    def __init__(self, *, install: bool) -> None:
        self._install = install
        self._failures: dict[str, str] = {}

    def run(self, name: str, module: str, asked: Mapping[str, Any]) -> Figures:
        """Run a peer. Raises MeasurementFailed, also if it cannot be installed."""
        python = self._get_python(name)
        return run_measured(f"benchmarks.peers.{module}", asked, python=str(python))

    def _get_python(self, name: str) -> Path:
        if name in self._failures:
            raise MeasurementFailed(self._failures[name])
        try:
            return self._ensure_installed(name)
        except (MeasurementFailed, OSError, subprocess.SubprocessError) as error:
            self._failures[name] = f"{name} is not installed: {str(error)[-300:]}"
            raise MeasurementFailed(self._failures[name]) from None

    def _ensure_installed(self, name: str) -> Path:
        wanted = (HERE / f"{name}.txt").read_text(encoding="utf-8")
        place = ENVIRONMENTS / name
        stamp, python = place / "installed.txt", place / "bin" / "python"
        if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted and python.exists():
            return python
        if not self._install:
            raise MeasurementFailed("a full run, or --install, installs it")
        print(f"  installing {name} ...", file=sys.stderr, flush=True)
        uv = Path(sys.executable).with_name("uv")
        _run(uv, "venv", "--quiet", "--clear", "--python", sys.executable, place)
        _run(
            uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", python,
            "-r", HERE / f"{name}.txt",
        )  # fmt: skip
        stamp.write_text(wanted, encoding="utf-8")
        return python


def _run(*words: object) -> None:
    done = subprocess.run(
        [str(word) for word in words],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    if done.returncode != 0:
        raise MeasurementFailed(done.stderr.strip() or f"{words[0]} ended with {done.returncode}")
