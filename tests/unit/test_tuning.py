"""A process gives back the memory of pages that it is done with."""

import platform
import subprocess
import sys

import pytest

from worker.core.process.tuning import tune_malloc

GLIBC = platform.libc_ver()[0] == "glibc"

SCRIPT = """
from pathlib import Path
from worker.core.process.tuning import tune_malloc

def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

{first}
bytes(8_000_000)  # freed at once: from here on, glibc by itself takes such blocks from its heap
before = resident()
blocks, kept = [], []
for _ in range(50):
    blocks.append(b"x" * 1_200_000)
    kept.append(b"y" * 20_000)
blocks.clear()
print(resident() - before)
"""


def held(first: str) -> int:
    """Bytes that stay with a process after 60 MB of large blocks were freed among small ones."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(first=first)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return int(done.stdout)


@pytest.mark.skipif(not GLIBC, reason="only glibc can be told")
def test_what_is_freed_goes_back_though_small_things_lie_between() -> None:
    assert held("assert tune_malloc()") < 10_000_000 < held("")


@pytest.mark.skipif(GLIBC, reason="this C library can be told")
def test_where_the_c_library_cannot_be_told_nothing_happens() -> None:
    assert tune_malloc() is False
