"""Follows change events without end, through outages of Postgres."""

from collections.abc import Callable, Iterator
from typing import Final

from worker.core.errors import RetryLater, ServerUnavailable
from worker.events.tail import Tail, TailedEvent

POLL_SECONDS: Final = 0.25
RETRY_SECONDS: Final = 1.0


def follow_events(
    tail: Tail, wait: Callable[[float], None], echo: Callable[[str], None]
) -> Iterator[TailedEvent]:
    """Yield present and future events without end; ``wait`` is called between two reads.

    ``echo`` is called when Postgres goes down, and when it is back.
    """
    away = False
    while True:
        try:
            yield from tail.read_new()
        except (ServerUnavailable, RetryLater) as error:
            if not away:
                echo(f"{error}; the output continues as soon as it works again")
            away = True
            wait(RETRY_SECONDS)
            continue
        if away:
            echo("Postgres answers again")
            away = False
        wait(POLL_SECONDS)
