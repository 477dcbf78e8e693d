"""Downstream of the service: a consumer of the stream, and a webhook whose receiver has moods.

Both fold what they get, and at each calm both have to hold exactly what the mirror holds. A Redis
that lost its memory lost entries: the consumer misses them, and an operator has them delivered
once more.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Final

import redis
from sqlalchemy import text

from models.sink import SinkKind, SinkStart
from sandbox.servers import Child
from tests.soak.service import CONSUMER, Service
from tests.support import consumer
from tests.support.consumer import GROUP, Fold
from tests.support.folded import counters, missing, unlike
from tests.support.hook import Hook
from tests.support.receiver import Receiver, receiving
from worker.core.beginning import Numbered
from worker.core.errors import Away, Later
from worker.store import sink_admin
from worker.store.replay import replay, target

STREAM: Final = "stream"
HOOK: Final = "hook"
TIMEOUT: Final = 5
FAULTS: Final = 0.005
PATIENCE: Final = 120.0
"""Seconds from the mirror's being exact until both have everything."""
LOOK: Final = 1.0

_POSITIONS = text("""
    select p.connection_id, p.seq from events.positions p
      join events.sinks s on s.id = p.sink_id where s.name = :name
""")
_PAUSED = text("select name from events.sinks where retry_at > clock_timestamp() + interval '8 s'")


class Downstream:
    """Who receives the events."""

    def __init__(self, service: Service, hook: Hook, fold: Fold) -> None:
        self.hook, self.fold = hook, fold
        self.replays = 0
        self._service = service

    def storm(self) -> None:
        """The receiver is slow, and fails now and then."""
        self.hook.moody = True

    def calm(self) -> None:
        """From now on it takes whatever comes."""
        self.hook.moody = False
        self.hook.release()

    def hang(self) -> None:
        self.hook.hang()

    def resume(self) -> list[str]:
        """As operators do who know that a receiver is well again; the sinks that waited long."""
        with self._service.database.begin() as connection:
            names = list(connection.execute(_PAUSED).scalars())
            for name in names:
                sink_admin.resume(connection, name)
        return names

    def watch(self) -> tuple[float | None, list[str]]:
        """Wait until both hold what the mirror holds: after how long, and what is wrong."""
        start = time.monotonic()
        while time.monotonic() - start < PATIENCE:
            try:
                self.resume()
                if self._is_complete():
                    seconds = time.monotonic() - start
                    return seconds, list(self._problems())
                self._replay()
            except (Away, Later, redis.RedisError):  # a server may still be on its way back
                pass
            time.sleep(LOOK)
        return None, [*self._behind(), *self._problems()]

    def _is_complete(self) -> bool:
        wanted = counters(self._service.database)
        return not any(missing(fold, wanted) for fold in (self.fold, self.hook.fold))

    def _replay(self) -> None:
        """What was delivered, read to the end, and yet is missing: Redis has forgotten it."""
        database = self._service.database
        with database.begin() as connection:
            delivered = {
                row.connection_id: row.seq
                for row in connection.execute(_POSITIONS, {"name": STREAM})
            }
        if delivered != counters(database) or not self._is_read():
            return
        lost = missing(self.fold, delivered)
        with database.begin() as connection:
            sink = target(connection, STREAM)
            for connection_id, had in lost.items():
                only = replace(sink, only=frozenset({connection_id}))
                self.replays += len(replay(connection, only, Numbered(had + 1)).again)

    def _is_read(self) -> bool:
        """Whether the consumer has stored all that the stream holds."""
        with redis.Redis.from_url(self._service.redis_url, socket_timeout=3) as client:
            if not client.exists(STREAM):
                return True
            groups = client.xinfo_groups(STREAM)
            end = client.xinfo_stream(STREAM)["last-generated-id"]
        return any(
            one["name"] == GROUP.encode() and not one["pending"] and one["last-delivered-id"] == end
            for one in groups
        )

    def _behind(self) -> Iterator[str]:
        wanted = counters(self._service.database)
        for name, fold in ((STREAM, self.fold), (HOOK, self.hook.fold)):
            for connection_id, had in missing(fold, wanted).items():
                last = wanted[connection_id]
                yield f"{name}: connection {connection_id} stands at {had} of {last}"
        with self._service.database.begin() as connection:
            for row in sink_admin.sinks_overview(connection):
                told = {key: row[key] for key in ("status", "status_reason", "waiting", "holder")}
                yield f"sink {row['name']}: {told}"

    def _problems(self) -> Iterator[str]:
        for name, fold in ((STREAM, self.fold), (HOOK, self.hook.fold)):
            yield from (f"{name}: {complaint}" for complaint in fold.complaints)
            for source, first in fold.lacking.items():
                yield f"{name}: {source} lacks {first} and what follows"
            yield from (f"{name}: {one}" for one in unlike(self._service.database, fold))


def add_sinks(service: Service, receiver: Receiver) -> None:
    stream = {"stream": STREAM, "maxlen": 1_000_000}
    hook = {
        "url": receiver.url,
        "batch": 100,
        "timeout": TIMEOUT,
        "allow_http": True,
        "allow_private": True,
    }
    oldest = SinkStart.OLDEST
    with service.database.begin() as connection:
        for new in (
            sink_admin.NewSink(STREAM, SinkKind.REDIS_STREAM, stream, start=oldest),
            sink_admin.NewSink(
                HOOK, SinkKind.WEBHOOK, hook, {"keys": [receiver.secret]}, start=oldest
            ),
        ):
            sink_admin.add(connection, new, None)


@contextmanager
def downstream(service: Service, folder: Path, seed: int) -> Iterator[Downstream]:
    """Both of them at work for the length of the block."""
    path = folder / "consumer.sqlite"
    fold = Fold(path)
    with receiving() as receiver:
        hook = Hook(receiver, Random(seed), faults=FAULTS, keep=False)
        add_sinks(service, receiver)
        service.supervisor.start(
            Child(
                name=CONSUMER,
                argv=[sys.executable, consumer.__file__, STREAM, str(path)],
                env={**service.plain_environment, "STREAM_URL": service.redis_url},
                log=service.home.log(CONSUMER),
            )
        )
        made = Downstream(service, hook, fold)
        try:
            yield made
        finally:
            hook.release()
    fold.close()
