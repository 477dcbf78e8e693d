"""Following change events for as long as somebody looks, through losses of Postgres."""

from collections.abc import Callable, Iterator
from typing import Final

from worker.core.errors import RetryLater, ServerUnavailable
from worker.events.tail import Tail, TailedEvent

POLL_SECONDS: Final = 0.25
RETRY_SECONDS: Final = 1.0


def follow_events(
    tail: Tail, wait: Callable[[float], None], echo: Callable[[str], None]
) -> Iterator[TailedEvent]:
    """What there is and what will come, without an end; ``wait`` waits between two looks.

    ``echo`` is told when Postgres goes away, and when it is back.
    """
    away = False
    while True:
        try:
            yield from tail.read_new()
        except (ServerUnavailable, RetryLater) as trouble:
            if not away:
                echo(f"{trouble}; it goes on as soon as that works again")
            away = True
            wait(RETRY_SECONDS)
            continue
        if away:
            echo("Postgres answers again")
            away = False
        wait(POLL_SECONDS)
