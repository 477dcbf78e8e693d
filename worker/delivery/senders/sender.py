"""What a sink of any kind has to do: take a batch of events, or say what to do instead."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Envelope(NamedTuple):
    """A change event, ready to leave."""

    body: bytes
    """CloudEvents 1.0, structured, as UTF-8 JSON."""
    event_id: str
    """The same however often the event is delivered."""
    connection_id: int
    seq: int


class EventSender(Protocol):
    """Where a sink's events go. One thread uses it; it may keep connections open.

    The events of a batch are of one connection and in its order. What was delivered may be handed
    over again, so receivers go by the event's id.
    """

    sent_count: int
    """How many events of the last batch were delivered, from the first on."""

    def send(self, envelopes: Sequence[Envelope]) -> None:
        """Hand over a batch; returns once the receiver has it for good.

        Raises EventRefused where the receiver refuses the first event that is not taken, and
        EventFailed where it failed at it and may do so because of it. Raises RetryLater or
        ServerUnavailable where all is to be tried again (``after`` seconds, if the receiver named
        a pause), Gone where the receiver wants no more, Halt where its settings are wrong.
        """

    def forget_failure(self) -> None:
        """The last failure came of an event: pauses are not to grow by it."""

    def set_deadline(self, moment: float) -> None:
        """Called from another thread: from ``moment`` of ``time.monotonic`` on, deliveries fail.

        Also the one under way; math.inf is never.
        """

    def close(self) -> None:
        """Let go of connections."""
