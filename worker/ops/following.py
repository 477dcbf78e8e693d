"""Following change events for as long as somebody looks, through losses of Postgres."""

from collections.abc import Callable, Iterator
from typing import Final

from worker.core.errors import Away, Later
from worker.events.tail import Seen, Tail

LOOK_SECONDS: Final = 0.25
AWAY_SECONDS: Final = 1.0


def followed(
    tail: Tail, rest: Callable[[float], None], say: Callable[[str], None]
) -> Iterator[Seen]:
    """What there is and what will come, without an end; ``rest`` waits between two looks.

    ``say`` is told when Postgres goes away, and when it is back.
    """
    away = False
    while True:
        try:
            yield from tail.news()
        except (Away, Later) as trouble:
            if not away:
                say(f"{trouble}; it goes on as soon as that works again")
            away = True
            rest(AWAY_SECONDS)
            continue
        if away:
            say("Postgres answers again")
            away = False
        rest(LOOK_SECONDS)
