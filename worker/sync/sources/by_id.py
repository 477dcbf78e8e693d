"""Find out by id which objects still exist in Graph."""

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final, NamedTuple, TypeAlias

from models.resource import Resource
from models.unresolved import NoAnswer
from worker.graph.client import GraphClient
from worker.graph.urls import build_object_path
from worker.nango.response import ApiResponse
from worker.store.lease import Transaction
from worker.store.mirror.merge import load_rows
from worker.sync.sources.partial_failures import error_from_response, fetch_each, isolate_errors

Address: TypeAlias = tuple[str, ...]
"""The values that the path of one object names."""


def load_addresses(tx: Transaction, resource: Resource, keys: list[str]) -> dict[str, Address]:
    """Return how to read objects by id, without those of which their rows do not tell it.

    Where one value that is not the key stands for an object, Graph also takes the key.
    """
    if resource.address == resource.key:
        return {key: (key,) for key in keys}
    places = [resource.column_names.index(name) for name in resource.address]
    stored = load_rows(tx, resource, keys)
    found = {
        key: tuple(stored[key].row[place] for place in places) if key in stored else (None,)
        for key in keys
    }
    if len(places) == 1:
        return {key: (values[0] or key,) for key, values in found.items()}
    return {key: values for key, values in found.items() if None not in values}


class ExistingObjects(NamedTuple):
    """Which of some objects exist, and for which Graph gave no answer."""

    present: set[str]
    unknown: dict[str, NoAnswer]


def find_existing(client: GraphClient, resource: Resource, keys: list[str]) -> ExistingObjects:
    """Return which of the keys exist in Graph, locked objects included."""
    present, unknown, locked = classify_objects(
        client, resource, keys, {key: (key,) for key in keys}
    )
    return ExistingObjects(present | locked.keys(), unknown)


def classify_objects(
    client: GraphClient, resource: Resource, keys: list[str], addresses: Mapping[str, Address]
) -> tuple[set[str], dict[str, NoAnswer], dict[str, NoAnswer]]:
    """Return the keys of objects that exist, those without an answer, and the locked ones.

    An object without an address cannot be read: it is none of these.
    """
    known = {key: addresses[key] for key in keys if key in addresses}
    replies = fetch_each(
        client, {key: build_object_path(resource, *one) for key, one in known.items()}
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
