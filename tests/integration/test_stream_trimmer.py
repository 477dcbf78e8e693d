"""A stream is kept within its bytes, whatever the size of its events."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from sandbox.servers import Servers
from worker.core.errors import SinkMisconfigured
from worker.delivery.senders.redis_stream import RedisStreamSender
from worker.delivery.senders.sender import Envelope

MIB = 1024 * 1024
LENGTH = 1_000_000


class Feed:
    """A stream, and what adds events to it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.name = f"bytes:{uuid.uuid4().hex[:8]}"
        self.redis: Any = redis.Redis.from_url(url)
        self.added = 0

    def target(self, most: int = MIB) -> RedisStreamSender:
        return RedisStreamSender(self.url, self.name, LENGTH, most)

    def add(self, target: RedisStreamSender, count: int, size: int) -> None:
        events = []
        for _ in range(count):
            self.added += 1
            events.append(Envelope(b"x" * size, str(self.added), 1, self.added))
        target.send(events)

    def used(self) -> int:
        return int(self.redis.memory_usage(self.name, samples=0) or 0)

    def ids(self) -> list[int]:
        return [int(entry[b"id"]) for _, entry in self.redis.xrange(self.name)]


@pytest.fixture
def feed(servers: Servers) -> Iterator[Feed]:
    made = Feed(servers.redis_url)
    yield made
    made.redis.delete(made.name)
    made.redis.close()


@pytest.mark.parametrize("size", [200, 2_000, 20_000, 100_000])
def test_a_stream_never_has_more_bytes_than_it_may(feed: Feed, size: int) -> None:
    target = feed.target()
    for _ in range(40):
        feed.add(target, max(1, 100_000 // size), size)
        assert feed.used() <= MIB
    ids = feed.ids()
    assert ids[-1] == feed.added
    assert ids == list(range(ids[0], ids[-1] + 1)), "the oldest go, without a gap"
    assert len(ids) * size > MIB // 2, "and no more than have to"
    target.close()


def test_large_events_behind_many_small_ones_are_kept_within_the_bytes(feed: Feed) -> None:
    target = feed.target()
    feed.add(target, 4_000, 100)
    for _ in range(30):
        feed.add(target, 4, 50_000)
        assert feed.used() <= MIB
    target.close()


def test_a_stream_that_is_too_large_already_is_brought_down_by_the_first_event(feed: Feed) -> None:
    """As one of a release that knew a bound of entries alone, or after the bound was lowered."""
    before = feed.target(64 * MIB)
    feed.add(before, 3_000, 2_000)
    before.close()
    assert feed.used() > 5 * MIB
    after = feed.target()
    feed.add(after, 1, 2_000)
    assert feed.used() <= MIB
    assert feed.ids()[-1] == feed.added
    after.close()


def test_a_batch_that_is_larger_than_the_bound_is_kept_whole(feed: Feed) -> None:
    target = feed.target()
    for _ in range(3):
        feed.add(target, 20, 100_000)
        assert len(feed.ids()) == 20
    target.close()


def test_entries_that_a_group_has_not_acknowledged_cost_no_event_its_place(feed: Feed) -> None:
    target = feed.target()
    feed.add(target, 2_000, 20)
    feed.redis.xgroup_create(feed.name, "slow", id="0")
    for _ in range(40):
        feed.add(target, 250, 20)
        feed.redis.xreadgroup("slow", "one", {feed.name: ">"}, count=10_000)
    assert feed.used() > MIB, "most of it is the group's list"
    assert len(feed.ids()) > 10_000
    feed.add(target, 1, 20)
    assert len(feed.ids()) > 10_000
    target.close()


def test_streams_of_connections_are_bounded_each(feed: Feed) -> None:
    target = RedisStreamSender(feed.url, feed.name + ":{connection_id}", LENGTH, MIB)
    for _ in range(20):
        for owner in (1, 2):
            target.send([Envelope(b"x" * 50_000, "a", owner, 1) for _ in range(4)])
    for owner in (1, 2):
        name = f"{feed.name}:{owner}"
        assert MIB // 2 < feed.redis.memory_usage(name, samples=0) <= MIB
        feed.redis.delete(name)
    target.close()


def test_a_user_without_the_right_to_measure_is_refused_before_anything_is_added(
    feed: Feed,
) -> None:
    user = f"feed-{uuid.uuid4().hex[:8]}"
    feed.redis.execute_command(
        "ACL", "SETUSER", user, "on", ">secret", "~*", "+eval", "+xadd", "+ping", "+client", "+echo"
    )
    login = feed.url.rpartition("@")[2]
    target = RedisStreamSender(f"redis://{user}:secret@{login}", feed.name, LENGTH, MIB)
    for _ in range(2):
        with pytest.raises(SinkMisconfigured, match="MEMORY USAGE"):
            feed.add(target, 1, 10)
    assert feed.ids() == []
    target.close()
    feed.redis.execute_command("ACL", "DELUSER", user)
