"""Kinds of sinks, and how each is opened."""

import time
from collections.abc import Callable

from models.sink import SinkKind
from worker.core.settings import Settings
from worker.relay.redis_stream import open_stream
from worker.relay.target import Target
from worker.relay.webhook import open_webhook
from worker.store.sinks import Sink


def open_target(sink: Sink, settings: Settings, now: Callable[[], float] = time.time) -> Target:
    """What delivers a sink's events. Raises Halt where its settings make no sense.

    ``now`` is the Unix time that requests are signed with.
    """
    if sink.kind is SinkKind.WEBHOOK:
        return open_webhook(sink, settings, now)
    return open_stream(sink, settings)
