"""What only one process keeps goes by a clock that nobody sets."""

import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.host_clock import HostClock
from worker.core.clock import ServerClock, steady_datetime, steady_time

KEEP = """
import sys
import time
from worker.core.clock import steady_time
from worker.nango.kv_store import InMemoryStore
ledger = InMemoryStore()
ledger.compare_and_swap("a", None, b"1", 600)
before, wall = ledger.read(["a"])[0], time.time()
print("ready", flush=True)
input()
after, values = ledger.read(["a"])
print(round(time.time() - wall, -1), 0 <= after - before < 60, values)
"""


@pytest.mark.parametrize("set_by", [4000, -4000])
def test_budgets_of_one_process_outlive_a_clock_that_is_set(tmp_path: Path, set_by: int) -> None:
    clock = HostClock(tmp_path / "clock")
    with subprocess.Popen(
        [sys.executable, "-c", KEEP],
        env=clock.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        clock.set_offset(set_by)
        told, _ = process.communicate("\n", timeout=60)
    assert told == f"{float(set_by)} True [b'1']\n"


def test_the_steady_clock_is_the_hosts_where_that_is_left_alone() -> None:
    assert abs(steady_time() - time.time()) < 1
    assert abs((steady_datetime() - datetime.now(UTC)).total_seconds()) < 1


def test_a_servers_clock_is_ours_until_it_was_seen() -> None:
    clock = ServerClock()
    assert abs(clock.time() - time.time()) < 1
    clock.observe(1_000_000.0, time.monotonic() - 5)
    assert 1_000_005 <= clock.time() < 1_000_010
