"""Kinds of sinks, and how each is opened."""

import time
from collections.abc import Callable

from models.sink import SinkKind
from worker.core.settings import Settings
from worker.delivery.senders.redis_stream import open_redis_stream
from worker.delivery.senders.sender import EventSender
from worker.delivery.senders.webhook import open_webhook
from worker.delivery.store.sinks import Sink


def open_sender(
    sink: Sink, settings: Settings, now: Callable[[], float] = time.time
) -> EventSender:
    """What delivers a sink's events. Raises ConfigurationError where its settings make no sense.

    ``now`` is the Unix time that requests are signed with.
    """
    if sink.kind is SinkKind.WEBHOOK:
        return open_webhook(sink, settings, now)
    return open_redis_stream(sink, settings)
