"""How long a failing sink is left alone, and reading ahead."""

from collections.abc import Iterator
from contextlib import closing
from threading import Event

import pytest

from models.sink import SinkKind
from worker.delivery.batch_reader import MAX_GROUPED_CONNECTIONS, choose_batch_size, group_backlogs
from worker.delivery.deliver import MAX_BACKOFF_SECONDS, compute_backoff
from worker.delivery.prefetch import DaemonThread, prefetch
from worker.delivery.store.sinks import Backlog, Sink
from worker.events.event import Position, SnapshotProgress


def test_pauses_grow_to_a_bound() -> None:
    pauses = [compute_backoff(failures, None, 0.0) for failures in range(1, 40)]
    assert pauses[:5] == [1, 2, 4, 8, 16]
    assert pauses == sorted(pauses)
    assert pauses[-1] == MAX_BACKOFF_SECONDS


def test_a_pause_is_never_shorter_than_the_receiver_asks_for() -> None:
    assert compute_backoff(1, 3_600.0, 0.0) == 3_600.0
    assert compute_backoff(4, 0.5, 0.0) == 8


def test_chance_sets_those_apart_that_failed_together() -> None:
    assert (
        compute_backoff(3, None, 0.0)
        < compute_backoff(3, None, 0.5)
        < compute_backoff(3, None, 1.0)
        == 5.0
    )


def test_the_next_is_made_while_one_is_worked_on() -> None:
    made = Event()

    def items() -> Iterator[int]:
        yield 1
        made.set()
        yield 2

    with closing(DaemonThread("reader")) as pool, closing(prefetch(pool, items())) as found:
        assert next(found) == 1
        assert made.wait(5), "before it is asked for"
        assert list(found) == [2]


def test_what_fails_ahead_is_raised_in_its_turn() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("the second")

    with closing(DaemonThread("reader")) as pool, closing(prefetch(pool, items())) as found:
        assert next(found) == 1
        with pytest.raises(ValueError, match="the second"):
            next(found)


def sink(kind: SinkKind, **settings: object) -> Sink:
    return Sink(id=1, name="a", kind=kind, token=1, settings=settings)


def test_a_webhook_is_handed_as_much_as_ten_requests_carry() -> None:
    assert choose_batch_size(sink(SinkKind.WEBHOOK, batch=1)) == 10
    assert choose_batch_size(sink(SinkKind.WEBHOOK, batch=100)) == 1_000
    assert choose_batch_size(sink(SinkKind.WEBHOOK, batch="spoilt")) == 10
    assert choose_batch_size(sink(SinkKind.REDIS_STREAM)) == 1_000


def waits(*counts: int, snapshot: SnapshotProgress | None = None) -> list[Backlog]:
    return [
        Backlog(Position(n, 5, None, snapshot), 5 + count, None) for n, count in enumerate(counts)
    ]


def test_connections_with_little_to_tell_are_read_together() -> None:
    some = [
        [one.event_seq - one.position.seq for one in few]
        for few in group_backlogs(waits(3, 4, 3, 1, 50, 2, 2), 10)
    ]
    assert some == [[3, 4, 3], [1], [50], [2, 2]]
    many = [len(few) for few in group_backlogs(waits(*[1] * 120), 1_000)]
    assert many == [MAX_GROUPED_CONNECTIONS, MAX_GROUPED_CONNECTIONS, 20]
    assert list(group_backlogs([], 10)) == []


def test_a_snapshot_is_read_by_itself() -> None:
    mixed = [*waits(1), *waits(0, snapshot=SnapshotProgress()), *waits(1, 1)]
    assert [len(few) for few in group_backlogs(mixed, 10)] == [1, 1, 2]
