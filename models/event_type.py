"""Event type names, one for each resource and change."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from models.change_event import ChangeKind, ConnectionChange
from models.resources import RESOURCES

CONNECTION_RESOURCE: Final = "connection"
"""Resource of events about the connection itself."""


def _build_event_types() -> dict[tuple[str, str], str]:
    names = {
        (resource.name, kind.value): f"{resource.event_noun}.{getattr(resource.verbs, kind.value)}"
        for resource in RESOURCES.values()
        if resource.has_events
        for kind in ChangeKind
    }
    connection_types = {
        (CONNECTION_RESOURCE, change.value): f"{CONNECTION_RESOURCE}.{change}"
        for change in ConnectionChange
    }
    return names | connection_types


EVENT_TYPES: Final[Mapping[tuple[str, str], str]] = MappingProxyType(_build_event_types())
"""Type names such as ``user.created``, without prefix, by resource and change."""
