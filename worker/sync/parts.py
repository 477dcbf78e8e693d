"""One of many requests that Graph refuses costs only itself. Touches no database.

Each group's members, each role's assignments and each object that is read by id is a part of its
own: what Graph does not answer for is set apart, and the others go on. Only a refusal that all of
them meet is the whole resource's.
"""

import time
from collections.abc import Mapping
from enum import Enum, auto
from typing import Final

from models.unresolved import Unanswered
from worker.core.errors import Broken, Later, Refused, Spent, Torn, Trouble
from worker.graph.batch import Batcher
from worker.graph.verdict import graph_trouble
from worker.nango.reply import Reply

GONE: Final = frozenset({404, 410})
LOCKED: Final = 423
THROTTLED: Final = frozenset({429, 509})

MANY: Final = 10
"""Parts asked for together from which on a refusal of them all is no longer each one's own."""

LIKELY_ALL: Final = 3
"""Requests that fail one after another, each tried in place, until no more are sent."""


class Existence(Enum):
    """What a read by id says of an object."""

    THERE = auto()
    GONE = auto()
    LOCKED = auto()
    """It is there, and says nothing else."""
    UNKNOWN = auto()


def existence(reply: Reply) -> Existence:
    """What the answer to a read by id means."""
    if reply.ok:
        return Existence.THERE
    if reply.status in GONE:
        return Existence.GONE
    return Existence.LOCKED if reply.status == LOCKED else Existence.UNKNOWN


def ask_each(batcher: Batcher, targets: Mapping[str, str]) -> dict[str, Reply]:
    """Every answer of Graph, also where requests have to go one by one and one of them fails.

    Raises what is not about a single request.
    """
    try:
        return batcher.get_all(targets)
    except Later as trouble:
        if not trouble.status or isinstance(trouble, Spent):
            raise
        if len(targets) == 1:
            pause = {"retry-after": f"{trouble.after or 0:.0f}"}
            return {name: Reply(trouble.status, b"", pause) for name in targets}
    return _one_by_one(batcher, targets)


def _one_by_one(batcher: Batcher, targets: Mapping[str, str]) -> dict[str, Reply]:
    """Each alone. Many that fail one after another are an outage, and raise what they met."""
    replies: dict[str, Reply] = {}
    failed = 0
    for name, target in targets.items():
        replies |= ask_each(batcher, {name: target})
        failed = failed + 1 if replies[name].status >= 500 else 0
        trouble = trouble_of(replies[name])
        if trouble is not None and failed == LIKELY_ALL and len(targets) >= MANY:
            raise trouble
    return replies


def trouble_of(reply: Reply, permission: str = "") -> Trouble | None:
    """Why an answer is of no use; None where it is a success."""
    return graph_trouble(reply, time.time(), permission)


def unanswered(trouble: Trouble) -> Unanswered:
    """A part that is set apart for a trouble."""
    return Unanswered(trouble.message, trouble.after or 0.0)


def each_its_own(troubles: Mapping[str, Trouble], asked: int) -> dict[str, Unanswered]:
    """Parts whose refusal says nothing of the resource: its list has just been read.

    Raises Broken where nothing that was ``asked`` along with them shows that the token is good.
    """
    for trouble in troubles.values():
        if isinstance(trouble, Broken) and len(troubles) == asked:
            raise trouble
    return {name: unanswered(trouble) for name, trouble in troubles.items()}


def parts_of_a_walk(
    troubles: Mapping[str, Trouble], asked: int, *, first: bool
) -> dict[str, Unanswered]:
    """Parts that a walk sets apart, out of those of one page that were ``asked`` for.

    Raises what they met where it is the whole resource's: where Graph asks to slow down, and where
    all of them got the same answer and are many, or are the ``first`` of the walk and several.
    """
    for trouble in troubles.values():
        if isinstance(trouble, Later) and trouble.status in THROTTLED:
            raise trouble
    alike = len({_likeness(trouble) for trouble in troubles.values()}) == 1
    several = asked >= MANY or (first and asked > 1)
    if alike and several and len(troubles) == asked:
        raise next(iter(troubles.values()))
    return each_its_own(troubles, asked)


def _likeness(trouble: Trouble) -> tuple[object, ...]:
    """What two troubles have in common where they have the same cause; 5xx change by chance."""
    match trouble:
        case Refused():
            return (Refused, trouble.status, trouble.code)
        case Torn():
            return (Torn, trouble.message)
        case Later():
            return (Later,) if trouble.status >= 500 else (Later, trouble.status)
        case _:
            return (type(trouble),)
