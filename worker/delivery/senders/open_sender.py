"""Open the sender for a sink's kind."""

import time
from collections.abc import Callable

from models.sink import SinkKind
from worker.core.errors import InvalidInput, SinkMisconfigured
from worker.core.settings import Settings
from worker.delivery.senders.redis_stream import open_redis_stream
from worker.delivery.senders.sender import EventSender
from worker.delivery.senders.webhook import open_webhook
from worker.delivery.store.sinks import Sink


def open_sender(
    sink: Sink, settings: Settings, now: Callable[[], float] = time.time
) -> EventSender:
    """Return the sender for a sink. Raises SinkMisconfigured if its settings are invalid.

    ``now`` returns the Unix time that requests are signed with.
    """
    try:
        if sink.kind is SinkKind.WEBHOOK:
            return open_webhook(sink, settings, now)
        return open_redis_stream(sink, settings)
    except InvalidInput as error:  # stored by an earlier release, or by hand
        raise SinkMisconfigured(error.message) from None
