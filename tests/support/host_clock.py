"""Simulates hosts with wrong clocks: real processes with a shifted wall clock.

``host_clock.c`` answers in the place of the C library's clock, and can be set while the processes
run. libfaketime would do, but with the monotonic clock left alone ``time.sleep`` fails under it.
"""

import functools
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

import pytest

_SOURCE = Path(__file__).with_suffix(".c")
_SECONDS = struct.Struct("q")


class HostClock:
    """One host's clock; every process that has ``environment`` goes by it."""

    def __init__(self, file: Path, ahead: int = 0) -> None:
        """Skips the test where no such clock can be made."""
        self._file = file
        file.write_bytes(_SECONDS.pack(ahead))
        self.environment = {"LD_PRELOAD": str(_build_library()), "CLOCK_OFFSET_FILE": str(file)}

    def set_offset(self, ahead: int) -> None:
        """Be ahead of the true time by so many seconds from now on; negative is behind."""
        with self._file.open("r+b") as file:
            file.write(_SECONDS.pack(ahead))


@functools.cache
def _build_library() -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip(
            "there is no C compiler (cc) to make a clock with: apt-get install gcc libc6-dev"
        )
    library = Path(tempfile.mkdtemp(prefix="host-clock-")) / "host_clock.so"
    done = subprocess.run(
        [compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(_SOURCE)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"no clock can be made here: {done.stderr[:200]}")
    return library
