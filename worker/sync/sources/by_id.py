"""Find out by id which objects still exist in Graph."""

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final, NamedTuple

from models.resource import Resource
from models.unresolved import NoAnswer
from worker.graph.client import GraphClient
from worker.graph.urls import build_object_path
from worker.nango.response import ApiResponse
from worker.sync.sources.partial_failures import error_from_response, fetch_each, isolate_errors


class ExistingObjects(NamedTuple):
    """Which of some objects exist, and for which Graph gave no answer."""

    present: set[str]
    unknown: dict[str, NoAnswer]


def find_existing(client: GraphClient, resource: Resource, keys: list[str]) -> ExistingObjects:
    """Return which of the keys exist in Graph, locked objects included."""
    present, unknown, locked = classify_objects(client, resource, keys, {})
    return ExistingObjects(present | locked.keys(), unknown)


def classify_objects(
    client: GraphClient, resource: Resource, keys: list[str], addresses: Mapping[str, str]
) -> tuple[set[str], dict[str, NoAnswer], dict[str, NoAnswer]]:
    """Return the keys of objects that exist, those without an answer, and the locked ones."""
    replies = fetch_each(
        client, {key: build_object_path(resource, addresses.get(key, key)) for key in keys}
    )
    meaning = {key: classify_presence(response) for key, response in replies.items()}
    present = {key for key, what in meaning.items() if what is ObjectPresence.EXISTS}
    locked = {
        key: NoAnswer("Graph answers 423: the object is locked")
        for key, what in meaning.items()
        if what is ObjectPresence.LOCKED
    }
    errors = {
        key: error
        for key, what in meaning.items()
        if what is ObjectPresence.UNKNOWN
        and (error := error_from_response(replies[key], resource.permission)) is not None
    }
    return present, isolate_errors(errors, len(keys)), locked


GONE_STATUSES: Final = frozenset({404, 410})
LOCKED_STATUS: Final = 423


class ObjectPresence(Enum):
    """The result of reading an object by id."""

    EXISTS = auto()
    GONE = auto()
    LOCKED = auto()
    """It exists, but cannot be read."""
    UNKNOWN = auto()


def classify_presence(response: ApiResponse) -> ObjectPresence:
    """Return whether the object exists, from the response to a read by id."""
    if response.is_success:
        return ObjectPresence.EXISTS
    if response.status in GONE_STATUSES:
        return ObjectPresence.GONE
    return ObjectPresence.LOCKED if response.status == LOCKED_STATUS else ObjectPresence.UNKNOWN
