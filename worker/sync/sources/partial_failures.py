"""Isolate refused requests, so that one of many affects only its own part. Touches no database.

Each group's members, each role's assignments and each object that is read by id is a part: parts
without an answer are recorded, and the others continue. Only a refusal of all parts concerns the
whole resource.
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
"""Parts requested together from which on a refusal of all of them has one shared cause."""

OUTAGE_AFTER: Final = 3
"""Consecutive failed requests, each retried in place, after which no more are sent."""


def fetch_each(client: GraphClient, paths: Mapping[str, str]) -> dict[str, ApiResponse]:
    """Return the response to every path, even if requests go one by one and one fails.

    Raises errors that are not about a single request.
    """
    try:
        return client.get_all(paths)
    except RetryLater as error:
        if not error.status or isinstance(error, BudgetExhausted):
            raise
        if len(paths) == 1:
            pause = {"retry-after": f"{error.after or 0:.0f}"}
            return {name: ApiResponse(error.status, b"", pause) for name in paths}
    return _fetch_one_by_one(client, paths)


def _fetch_one_by_one(client: GraphClient, targets: Mapping[str, str]) -> dict[str, ApiResponse]:
    """Send each request alone. Raises the error of consecutive failures that are an outage."""
    replies: dict[str, ApiResponse] = {}
    failed = 0
    for name, target in targets.items():
        replies |= fetch_each(client, {name: target})
        failed = failed + 1 if replies[name].status >= 500 else 0
        error = error_from_response(replies[name])
        if error is not None and failed == OUTAGE_AFTER and len(targets) >= SHARED_CAUSE_MIN:
            raise error
    return replies


def error_from_response(response: ApiResponse, permission: str = "") -> MirrorError | None:
    """Return why a response is unusable, or None if it is a success."""
    return classify_graph_response(response, time.time(), permission)


def build_unanswered(error: MirrorError) -> NoAnswer:
    """Return the reason and pause for a part that failed with this error."""
    return NoAnswer(error.message, error.after or 0.0)


def isolate_errors(errors: Mapping[str, MirrorError], asked: int) -> dict[str, NoAnswer]:
    """Return the unanswered parts; their errors do not concern the resource, which was just read.

    Raises ConnectionBroken if all that was ``asked`` failed, as nothing then proves the token.
    """
    for error in errors.values():
        if isinstance(error, ConnectionBroken) and len(errors) == asked:
            raise error
    return {name: build_unanswered(error) for name, error in errors.items()}


def isolate_walk_errors(
    errors: Mapping[str, MirrorError], asked: int, *, is_first_page: bool
) -> dict[str, NoAnswer]:
    """Return the unanswered parts of one page of a walk, out of ``asked`` requests.

    Raises the error if it concerns the whole resource: if Graph throttles, or if all parts got the
    same answer and are many, or several on the ``is_first_page`` of the walk.
    """
    for error in errors.values():
        if isinstance(error, RetryLater) and error.status in THROTTLED_STATUSES:
            raise error
    alike = len({_build_cause_key(error) for error in errors.values()}) == 1
    several = asked >= SHARED_CAUSE_MIN or (is_first_page and asked > 1)
    if alike and several and len(errors) == asked:
        raise next(iter(errors.values()))
    return isolate_errors(errors, asked)


def _build_cause_key(error: MirrorError) -> tuple[object, ...]:
    """Return a key that errors of the same cause share; 5xx statuses vary by chance."""
    match error:
        case ResourceRefused():
            return (ResourceRefused, error.status, error.code)
        case MalformedResponse():
            return (MalformedResponse, error.message)
        case RetryLater():
            return (RetryLater,) if error.status >= 500 else (RetryLater, error.status)
        case _:
            return (type(error),)
