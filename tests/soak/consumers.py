"""The consumers of the soak test: one of the Redis stream, and a webhook receiver that can fail.

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
from tests.soak.service import CONSUMER, SoakService
from tests.support import consumer
from tests.support.consumer import GROUP, Fold
from tests.support.fold import find_differences, find_missing, read_counters
from tests.support.webhook_consumer import WebhookConsumer
from tests.support.webhook_receiver import WebhookReceiver, run_receiver
from worker.core.errors import RetryLater, ServerUnavailable
from worker.delivery.store import admin
from worker.delivery.store.replay import find_replay_target, move_positions_back
from worker.events.start import FromSequence

STREAM: Final = "stream"
WEBHOOK: Final = "hook"
TIMEOUT: Final = 5
FAULT_SHARE: Final = 0.005
DELIVERY_SECONDS: Final = 120.0
"""Seconds from the mirror's being exact until both have everything."""
POLL_SECONDS: Final = 1.0

_POSITIONS = text("""
    select p.connection_id, p.seq from events.positions p
      join events.sinks s on s.id = p.sink_id where s.name = :name
""")
_PAUSED = text("select name from events.sinks where retry_at > clock_timestamp() + interval '8 s'")


class Consumers:
    """Who receives the events."""

    def __init__(self, service: SoakService, webhook: WebhookConsumer, fold: Fold) -> None:
        self.webhook, self.fold = webhook, fold
        self.replays = 0
        self._service = service

    def start_faults(self) -> None:
        """The receiver is slow, and fails now and then."""
        self.webhook.fails_randomly = True

    def stop_faults(self) -> None:
        """From now on it takes whatever comes."""
        self.webhook.fails_randomly = False
        self.webhook.release()

    def hang_webhook(self) -> None:
        self.webhook.hang()

    def resume_sinks(self) -> list[str]:
        """As operators do who know that a receiver is well again; the sinks that waited long."""
        with self._service.database.open_transaction() as db:
            names = list(db.execute(_PAUSED).scalars())
            for name in names:
                admin.resume_sink(db, name)
        return names

    def wait_until_complete(self) -> tuple[float | None, list[str]]:
        """Wait until both hold what the mirror holds: after how long, and what is wrong."""
        start = time.monotonic()
        while time.monotonic() - start < DELIVERY_SECONDS:
            try:
                self.resume_sinks()
                if self._is_complete():
                    seconds = time.monotonic() - start
                    return seconds, list(self._find_problems())
                self._replay_lost()
            except (
                ServerUnavailable,
                RetryLater,
                redis.RedisError,
            ):  # a server may still be on its way back
                pass
            time.sleep(POLL_SECONDS)
        return None, [*self._describe_lag(), *self._find_problems()]

    def _is_complete(self) -> bool:
        wanted = read_counters(self._service.database)
        return not any(find_missing(fold, wanted) for fold in (self.fold, self.webhook.fold))

    def _replay_lost(self) -> None:
        """What was delivered, read to the end, and yet is missing: Redis has forgotten it."""
        database = self._service.database
        with database.open_transaction() as connection:
            delivered = {
                row.connection_id: row.seq
                for row in connection.execute(_POSITIONS, {"name": STREAM})
            }
        if delivered != read_counters(database) or not self._is_read():
            return
        lost = find_missing(self.fold, delivered)
        with database.open_transaction() as db:
            sink = find_replay_target(db, STREAM)
            for connection_id, had in lost.items():
                only = replace(sink, connection_ids=frozenset({connection_id}))
                self.replays += len(move_positions_back(db, only, FromSequence(had + 1)).replayed)

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

    def _describe_lag(self) -> Iterator[str]:
        wanted = read_counters(self._service.database)
        for name, fold in ((STREAM, self.fold), (WEBHOOK, self.webhook.fold)):
            for connection_id, had in find_missing(fold, wanted).items():
                last = wanted[connection_id]
                yield f"{name}: connection {connection_id} stands at {had} of {last}"
        with self._service.database.open_transaction() as db:
            for row in admin.list_sinks(db):
                lag = {key: row[key] for key in ("status", "status_reason", "waiting", "holder")}
                yield f"sink {row['name']}: {lag}"

    def _find_problems(self) -> Iterator[str]:
        for name, fold in ((STREAM, self.fold), (WEBHOOK, self.webhook.fold)):
            yield from (f"{name}: {complaint}" for complaint in fold.errors)
            for source, first in fold.gaps.items():
                yield f"{name}: {source} lacks {first} and what follows"
            yield from (f"{name}: {one}" for one in find_differences(self._service.database, fold))


def add_sinks(service: SoakService, receiver: WebhookReceiver) -> None:
    stream = {"stream": STREAM, "maxlen": 1_000_000}
    hook = {
        "url": receiver.url,
        "batch": 100,
        "timeout": TIMEOUT,
        "allow_http": True,
        "allow_private": True,
    }
    oldest = SinkStart.OLDEST
    with service.database.open_transaction() as db:
        for new in (
            admin.NewSink(STREAM, SinkKind.REDIS_STREAM, stream, start=oldest),
            admin.NewSink(
                WEBHOOK, SinkKind.WEBHOOK, hook, {"keys": [receiver.secret]}, start=oldest
            ),
        ):
            admin.add_sink(db, new, None)


@contextmanager
def run_consumers(service: SoakService, folder: Path, seed: int) -> Iterator[Consumers]:
    """Both of them at work for the length of the block."""
    path = folder / "consumer.sqlite"
    fold = Fold(path)
    with run_receiver() as receiver:
        hook = WebhookConsumer(receiver, Random(seed), fault_share=FAULT_SHARE, keeps_events=False)
        add_sinks(service, receiver)
        service.supervisor.start(
            Child(
                name=CONSUMER,
                argv=[sys.executable, consumer.__file__, STREAM, str(path)],
                env={**service.plain_environment, "STREAM_URL": service.redis_url},
                log=service.home.get_log_path(CONSUMER),
            )
        )
        made = Consumers(service, hook, fold)
        try:
            yield made
        finally:
            hook.release()
    fold.close()
