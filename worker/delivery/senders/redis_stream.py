"""A Redis stream as a sink: an entry for each event, with its id and its envelope.

A batch is one script call: a pipeline would bring a reply for each event, and reading those in
Python costs more than everything else. Readers of the stream also see a batch as a whole.
"""

import math
import time
from collections.abc import Sequence
from typing import Any, Final

import redis

from worker.core.errors import EventRefused, MirrorError, SinkMisconfigured
from worker.core.redis.errors import classify_redis_error
from worker.core.redis.pool import build_redis_pool
from worker.core.settings import Settings
from worker.delivery.senders.sender import Envelope
from worker.delivery.senders.stream_trimmer import StreamTrimmer
from worker.delivery.settings import (
    DEFAULT_MAXBYTES,
    parse_redis_stream_secrets,
    parse_redis_stream_settings,
)
from worker.delivery.store.sinks import Sink

MAX_EVENTS_PER_CALL: Final = 250
"""Most events in one call, during which Redis serves no other client (a few milliseconds)."""
CONNECTION_PLACEHOLDER: Final = "{connection_id}"
"""In a stream's name, replaced by the connection's id: a stream for each connection."""

APPEND_SCRIPT: Final = b"""
local most = ARGV[1]
for i = 2, #ARGV, 2 do
    redis.call('XADD', KEYS[1], 'MAXLEN', '~', most, '*', 'id', ARGV[i], 'event', ARGV[i + 1])
end
return #ARGV
"""
_NEEDED_RIGHTS: Final = (
    "the sink needs EVAL, XADD, XLEN, XTRIM, XINFO GROUPS and MEMORY USAGE on its stream"
)
MIN_BULK_LIMIT: Final = 1024 * 1024
"""The smallest limit on one value that Redis can be set to."""
_TIMEOUT_SECONDS: Final = 10.0
_SIZE_CHECK_SECONDS: Final = 1.0
_WAIT_STEP_SECONDS: Final = 0.25


class RedisStreamSender:
    """Appends events to a stream."""

    def __init__(
        self,
        address: str,
        stream: str,
        max_length: int,
        max_bytes: int = DEFAULT_MAXBYTES,
        *,
        url_name: str = "REDIS_URL",
    ) -> None:
        self._pool = build_redis_pool(
            address, retries=0, timeout=_TIMEOUT_SECONDS, connect_timeout=5.0, max_connections=1
        )
        self._stream = stream
        self._url_name = url_name
        self.max_length = b"%d" % max_length
        self._trimmer = StreamTrimmer(max_bytes)
        self.sent_count = 0
        self._deadline = math.inf

    def send(self, events: Sequence[Envelope]) -> None:
        """Append a batch of one connection's events.

        Raises EventRefused if Redis takes no event of that size, or if the connection's own stream
        cannot be written; ServerUnavailable or RetryLater if Redis cannot take it now;
        SinkMisconfigured or ConfigurationError if it never will.
        """
        self.sent_count = 0
        for start in range(0, len(events), MAX_EVENTS_PER_CALL):
            self._send_part(events[start : start + MAX_EVENTS_PER_CALL])

    def _send_part(self, part: Sequence[Envelope]) -> None:
        """Append with one call; if one event is too large, append those before it."""
        stream = self._stream.replace(CONNECTION_PLACEHOLDER, str(part[0].connection_id))
        try:
            self._append(stream, part)
        except (redis.RedisError, OSError) as error:
            large = self._find_too_large(part, error)
            if large is None:
                raise self._translate_error(error, stream) from error
            if large > 0:
                self._send_part(part[:large])
            size = len(part[large].body)
            raise EventRefused(
                f"Redis rejects an event of {size:,} bytes; raise its setting proto-max-bulk-len"
            ) from error
        self.sent_count += len(part)

    def _find_too_large(self, part: Sequence[Envelope], error: Exception) -> int | None:
        """Return the index of the first event that is too large for Redis, or None.

        Redis then closes the connection, mostly before its answer can be read.
        """
        is_size_error = isinstance(error, redis.ResponseError) and "bulk length" in str(error)
        if not is_size_error and not isinstance(error, redis.ConnectionError):
            return None
        large = [n for n, one in enumerate(part) if len(one.body) >= MIN_BULK_LIMIT]
        return next((n for n in large if not self._accepts_size(len(part[n].body))), None)

    def _accepts_size(self, size: int) -> bool:
        """Whether Redis accepts a value of that size: it decides by the announced length alone."""
        connection = self._pool.get_connection()
        try:
            connection.send_packed_command([b"*2\r\n$4\r\nECHO\r\n$%d\r\n" % size])  # type: ignore[no-untyped-call]
            if connection.can_read(timeout=_SIZE_CHECK_SECONDS):
                connection.read_response()
        except redis.ResponseError as error:
            return "bulk length" not in str(error)
        except (redis.RedisError, OSError):
            return True  # Redis is unavailable: report that error instead
        finally:
            connection.disconnect()  # type: ignore[no-untyped-call]
            self._pool.release(connection)
        return True

    def _translate_error(self, error: Exception, stream: str) -> MirrorError:
        """Return the error; with a stream for each connection, it pauses only that one."""
        kind = EventRefused if CONNECTION_PLACEHOLDER in self._stream else SinkMisconfigured
        if isinstance(error, redis.ResponseError) and "WRONGTYPE" in str(error):
            return kind(f"the key {stream!r} in Redis is not a stream")
        if isinstance(error, redis.exceptions.NoPermissionError):
            return kind(f"Redis denies the user access to the stream {stream!r}; {_NEEDED_RIGHTS}")
        return classify_redis_error(error, _NEEDED_RIGHTS, url_name=self._url_name)

    def forget_failure(self) -> None:
        """Do nothing: ``Delivery`` plans the pauses."""

    def set_deadline(self, moment: float) -> None:
        self._deadline = moment

    def close(self) -> None:
        self._pool.disconnect()

    def _append(self, stream: str, events: Sequence[Envelope]) -> None:
        connection = self._pool.get_connection()

        def ask(*command: object) -> Any:
            connection.send_command(*command)  # type: ignore[no-untyped-call]
            self._wait_for_answer(connection)
            return connection.read_response()

        try:
            size = sum(len(one.body) + len(one.event_id) for one in events)
            self._trimmer.make_room(ask, stream, size)
            for start in range(0, len(events), MAX_EVENTS_PER_CALL):
                part = events[start : start + MAX_EVENTS_PER_CALL]
                self.write_call(connection, stream, part)
                # Redis may refuse one call (busy, loading, full) and take the next: wait for each
                # answer before sending the next, else events would be out of order.
                self._wait_for_answer(connection)
                connection.read_response()
        except BaseException:
            # An unread reply would be taken for that of the next batch.
            connection.disconnect()  # type: ignore[no-untyped-call]
            raise
        finally:
            self._pool.release(connection)

    def write_call(
        self,
        connection: "redis.connection.ConnectionInterface",
        stream: str,
        events: Sequence[Envelope],
    ) -> None:
        """Write the call that appends events; ``benchmarks`` compare it with redis-py's packing."""
        command = _build_eval(stream, self.max_length, events)
        connection.send_packed_command([command])  # type: ignore[no-untyped-call]

    def _wait_for_answer(self, connection: "redis.connection.ConnectionInterface") -> None:
        """Wait in short steps, so that ``set_deadline`` takes effect at once."""
        until = time.monotonic() + _TIMEOUT_SECONDS
        while not connection.can_read(timeout=_WAIT_STEP_SECONDS):
            if time.monotonic() >= min(until, self._deadline):
                raise redis.TimeoutError("no answer in time")


def _build_eval(stream: str, most: bytes, events: Sequence[Envelope]) -> bytes:
    """Return the whole EVAL command in Redis's wire format."""
    head = (b"EVAL", APPEND_SCRIPT, b"1", stream.encode(), most)
    parts = [b"*%d\r\n" % (len(head) + 2 * len(events))]
    parts += [b"$%d\r\n%b\r\n" % (len(one), one) for one in head]
    parts += [
        b"$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(event_id), event_id.encode(), len(body), body)
        for body, event_id, _, _ in events
    ]
    return b"".join(parts)


def open_redis_stream(sink: Sink, settings: Settings) -> RedisStreamSender:
    """Return the sender for a sink's stream, on its own server or on that of ``REDIS_URL``.

    Raises InvalidInput for invalid settings, SinkMisconfigured if no server is set.
    """
    own = parse_redis_stream_settings(sink.settings)
    own_address = parse_redis_stream_secrets(sink.secrets).url
    address = own_address or settings.redis_url
    if address is None:
        raise SinkMisconfigured("the sink has no url, and REDIS_URL is not set")
    return RedisStreamSender(
        address.get_secret_value(),
        own.stream,
        own.maxlen,
        own.maxbytes,
        url_name=f"the url of sink '{sink.name}'" if own_address else "REDIS_URL",
    )
