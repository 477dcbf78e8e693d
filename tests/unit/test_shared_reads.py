"""Requests that want the same share one read of the database."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from worker.web.shared_reads import SharedReads


class Source:
    """Counts how often it is read."""

    def __init__(self) -> None:
        self.reads = 0

    def read(self) -> int:
        self.reads += 1
        return self.reads


def test_what_was_read_is_used_for_a_second() -> None:
    moment = [100.0]
    reads, source = SharedReads(clock=lambda: moment[0]), Source()
    assert [reads.get("a", source.read), reads.get("a", source.read)] == [1, 1]
    moment[0] += 0.9
    assert reads.get("a", source.read) == 1
    moment[0] += 0.2
    assert reads.get("a", source.read) == 2
    assert reads.get("a", source.read, seconds=0.0) == 3
    assert reads.get("b", source.read) == 4, "another key is another read"


def test_twenty_tabs_at_once_cost_one_read() -> None:
    reads, source, all_there = SharedReads(), Source(), threading.Barrier(20)

    def ask(_: int) -> int:
        all_there.wait(timeout=10)
        return reads.get("a", source.read, seconds=60)

    with ThreadPoolExecutor(20) as pool:
        assert set(pool.map(ask, range(20))) == {1}
    assert source.reads == 1


def test_a_read_that_fails_is_not_kept() -> None:
    reads, source = SharedReads(), Source()

    def fail() -> int:
        raise RuntimeError("away")

    with pytest.raises(RuntimeError):
        reads.get("a", fail)
    assert reads.get("a", source.read) == 1


def test_only_so_many_reads_are_kept() -> None:
    reads, source = SharedReads(), Source()
    for number in range(1000):
        reads.get(number, source.read, seconds=60)
    assert len(reads._kept) == 200
    assert reads.get(999, source.read, seconds=60) == 1000
    assert reads.get(0, source.read, seconds=60) == 1001
    reads.clear()
    assert reads.get(999, source.read, seconds=60) == 1002
