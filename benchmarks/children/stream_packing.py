"""Sends the entries of a stream again: packed by our sender, and by redis-py's own packing."""

from collections.abc import Sequence
from typing import Any

import redis

from benchmarks.meter import Figures, Meter, read_arguments, write_figures
from worker.delivery.senders.redis_stream import APPEND_SCRIPT, RedisStreamSender
from worker.delivery.senders.sender import Envelope


class LibrarySender(RedisStreamSender):
    """Sends the same call through redis-py's public way."""

    def write_call(self, connection: Any, stream: str, events: Sequence[Envelope]) -> None:
        values = [value for one in events for value in (one.event_id, one.body)]
        connection.send_command("EVAL", APPEND_SCRIPT, 1, stream, self.max_length, *values)


def main() -> None:
    asked = read_arguments()
    client: Any = redis.Redis.from_url(asked["redis"])
    events = [
        Envelope(fields[b"event"], fields[b"id"].decode(), 1, number)
        for number, (_, fields) in enumerate(client.xrange(asked["stream"]))
    ]
    figures = {
        kind.__name__: _measure(kind, client, asked, events)
        for kind in (RedisStreamSender, LibrarySender)
    }
    write_figures(
        {
            "ours": figures["RedisStreamSender"],
            "library": figures["LibrarySender"],
            "events": len(events),
        }
    )


def _measure(
    kind: type[RedisStreamSender], client: Any, asked: Figures, events: Sequence[Envelope]
) -> Figures:
    sender = kind(asked["redis"], asked["to"], len(events))
    size = asked["at_once"]
    with Meter() as meter:
        for start in range(0, len(events), size):
            sender.send(events[start : start + size])
    sender.close()
    client.delete(asked["to"])
    return meter.figures


if __name__ == "__main__":
    main()
