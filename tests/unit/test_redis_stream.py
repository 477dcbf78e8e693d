"""Calls to Redis that are refused, as a Redis that is busy, loading or full refuses them."""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedIOBase

import pytest

from worker.core.errors import ServerUnavailable
from worker.delivery.senders.redis_stream import MAX_EVENTS_PER_CALL, RedisStreamSender
from worker.delivery.senders.sender import Envelope


@dataclass
class Refusing:
    """Refuses the first call of a script and takes all others."""

    port: int = 0
    calls: int = 0
    gone: threading.Event = field(default_factory=threading.Event)

    def answer(self, command: list[bytes]) -> bytes:
        if command[0] != b"EVAL":
            return b"+PONG\r\n" if command[0] == b"PING" else b"+OK\r\n"
        self.calls += 1
        return b"-BUSY running a script\r\n" if self.calls == 1 else b":1\r\n"


def commands(file: BufferedIOBase) -> Iterator[list[bytes]]:
    """What a client sends, until it hangs up."""
    while line := file.readline():
        parts = []
        for _ in range(int(line[1:])):
            size = int(file.readline()[1:])
            parts.append(file.read(size + 2)[:-2])
        yield parts


@contextmanager
def refusing() -> Iterator[Refusing]:
    redis = Refusing()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            for command in commands(self.rfile):
                self.wfile.write(redis.answer(command))
            redis.gone.set()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        redis.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield redis
        finally:
            server.shutdown()
            thread.join()


def test_nothing_is_sent_behind_a_call_that_was_refused() -> None:
    events = [Envelope(b"{}", str(n), 1, n) for n in range(3 * MAX_EVENTS_PER_CALL)]
    with refusing() as redis:
        target = RedisStreamSender(f"redis://127.0.0.1:{redis.port}/0?protocol=2", "feed", 1_000)
        with pytest.raises(ServerUnavailable):
            target.send(events)
        assert redis.gone.wait(10)
        assert redis.calls == 1
        target.send(events)
        assert redis.calls == 1 + 3
        target.close()
