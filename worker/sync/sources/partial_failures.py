"""One of many requests that Graph refuses costs only itself. Touches no database.

Each group's members, each role's assignments and each object that is read by id is a part of its
own: what Graph does not answer for is set apart, and the others go on. Only a refusal that all of
them meet is the whole resource's.
"""

import time
from collections.abc import Mapping
from typing import Final

from models.unresolved import NoAnswer
from worker.core.errors import (
    BudgetExhausted,
    ConnectionBroken,
    MalformedResponse,
    MirrorError,
    ResourceRefused,
    RetryLater,
)
from worker.graph.client import GraphClient
from worker.graph.errors import classify_graph_response
from worker.nango.response import ApiResponse

THROTTLED_STATUSES: Final = frozenset({429, 509})

SHARED_CAUSE_MIN: Final = 10
"""Parts asked for together from which on a refusal of them all is no longer each one's own."""

OUTAGE_AFTER: Final = 3
"""Requests that fail one after another, each tried in place, until no more are sent."""


def fetch_each(client: GraphClient, paths: Mapping[str, str]) -> dict[str, ApiResponse]:
    """Every answer of Graph, also where requests have to go one by one and one of them fails.

    Raises what is not about a single request.
    """
    try:
        return client.get_all(paths)
    except RetryLater as trouble:
        if not trouble.status or isinstance(trouble, BudgetExhausted):
            raise
        if len(paths) == 1:
            pause = {"retry-after": f"{trouble.after or 0:.0f}"}
            return {name: ApiResponse(trouble.status, b"", pause) for name in paths}
    return _fetch_one_by_one(client, paths)


def _fetch_one_by_one(client: GraphClient, targets: Mapping[str, str]) -> dict[str, ApiResponse]:
    """Each alone. Many that fail one after another are an outage, and raise what they met."""
    replies: dict[str, ApiResponse] = {}
    failed = 0
    for name, target in targets.items():
        replies |= fetch_each(client, {name: target})
        failed = failed + 1 if replies[name].status >= 500 else 0
        trouble = error_from_response(replies[name])
        if trouble is not None and failed == OUTAGE_AFTER and len(targets) >= SHARED_CAUSE_MIN:
            raise trouble
    return replies


def error_from_response(response: ApiResponse, permission: str = "") -> MirrorError | None:
    """Why an answer is of no use; None where it is a success."""
    return classify_graph_response(response, time.time(), permission)


def build_unanswered(error: MirrorError) -> NoAnswer:
    """A part that is set apart for a trouble."""
    return NoAnswer(error.message, error.after or 0.0)


def isolate_errors(troubles: Mapping[str, MirrorError], asked: int) -> dict[str, NoAnswer]:
    """Parts whose refusal says nothing of the resource: its list has just been read.

    Raises ConnectionBroken where nothing that was ``asked`` along with them shows that the token
    is good.
    """
    for trouble in troubles.values():
        if isinstance(trouble, ConnectionBroken) and len(troubles) == asked:
            raise trouble
    return {name: build_unanswered(trouble) for name, trouble in troubles.items()}


def isolate_walk_errors(
    troubles: Mapping[str, MirrorError], asked: int, *, is_first_page: bool
) -> dict[str, NoAnswer]:
    """Parts that a walk sets apart, out of those of one page that were ``asked`` for.

    Raises what they met where it is the whole resource's: where Graph asks to slow down, and where
    all of them got the same answer and are many, or are the ``is_first_page`` of the walk and
    several.
    """
    for trouble in troubles.values():
        if isinstance(trouble, RetryLater) and trouble.status in THROTTLED_STATUSES:
            raise trouble
    alike = len({_build_cause_key(trouble) for trouble in troubles.values()}) == 1
    several = asked >= SHARED_CAUSE_MIN or (is_first_page and asked > 1)
    if alike and several and len(troubles) == asked:
        raise next(iter(troubles.values()))
    return isolate_errors(troubles, asked)


def _build_cause_key(error: MirrorError) -> tuple[object, ...]:
    """What two troubles have in common where they have the same cause; 5xx change by chance."""
    match error:
        case ResourceRefused():
            return (ResourceRefused, error.status, error.code)
        case MalformedResponse():
            return (MalformedResponse, error.message)
        case RetryLater():
            return (RetryLater,) if error.status >= 500 else (RetryLater, error.status)
        case _:
            return (type(error),)
