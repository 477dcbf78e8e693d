"""Send one test event, to check that a sink works."""

import time
import uuid
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from worker.core.clock import ServerClock
from worker.core.settings import Settings
from worker.delivery.senders.open_sender import open_sender
from worker.delivery.senders.sender import Envelope
from worker.delivery.senders.webhook import WebhookSender
from worker.delivery.store.sinks import Sink


class SinkTestResult(NamedTuple):
    """The result of a test; ``status`` is the HTTP status of a webhook's response."""

    name: str
    event_id: str
    seconds: float
    status: int | None


def send_test_event(sink: Sink, settings: Settings, clock: ServerClock) -> SinkTestResult:
    """Deliver one test event, dated by ``clock``. Raises as a delivery does."""
    event_id = str(uuid.uuid4())
    target = open_sender(sink, settings, clock.time)
    body = build_test_envelope(event_id, sink.name, settings, clock)
    began = time.monotonic()
    try:
        target.send([Envelope(body, event_id, 0, 0)])
        seconds = time.monotonic() - began
        answer = target.response if isinstance(target, WebhookSender) else None
    finally:
        target.close()
    return SinkTestResult(sink.name, event_id, round(seconds, 3), answer.status if answer else None)


def build_test_envelope(
    event_id: str, name: str, settings: Settings, clock: ServerClock | None = None
) -> bytes:
    """Return an envelope without a connection, and so without a sequence."""
    moment = f"{datetime.fromtimestamp((clock or ServerClock()).time(), UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
    return msgspec.json.encode(
        {
            "specversion": "1.0",
            "id": event_id,
            "source": f"/sinks/{name}",
            "type": f"{settings.event_prefix}.test",
            "time": moment,
            "datacontenttype": "application/json",
            "data": {"sink": name},
        }
    )
