"""The interface of a sink of any kind: take a batch of events, or raise what to do instead."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Envelope(NamedTuple):
    """A change event, ready to be sent."""

    body: bytes
    """CloudEvents 1.0, structured, as UTF-8 JSON."""
    event_id: str
    """The same for every delivery of the event."""
    connection_id: int
    seq: int


class EventSender(Protocol):
    """Sends a sink's events. One thread uses it; it may keep connections open.

    The events of a batch are of one connection and in its order. Delivered events may be sent
    again, so receivers deduplicate by the event's id.
    """

    sent_count: int
    """How many events of the last batch were delivered, from the first on."""

    def send(self, envelopes: Sequence[Envelope]) -> None:
        """Send a batch; return once the receiver has stored it.

        Raises EventRefused if the receiver refuses the first event that is not taken, and
        EventFailed if it failed at it and may do so because of it. Raises RetryLater or
        ServerUnavailable if all is to be retried (``after`` seconds, if the receiver named a
        pause), SinkGone if the receiver wants no more events, SinkMisconfigured if its settings are
        wrong.
        """

    def forget_failure(self) -> None:
        """Do not count the last failure for growing pauses, as an event caused it."""

    def set_deadline(self, moment: float) -> None:
        """Make deliveries fail from ``moment`` of ``time.monotonic`` on.

        Called from another thread; includes the delivery under way; ``math.inf`` is never.
        """

    def close(self) -> None:
        """Close connections."""
