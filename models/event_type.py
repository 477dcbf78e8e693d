"""Event type names, one for each resource and change."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from models.change_event import ChangeKind, ConnectionChange
from models.resources import RESOURCES

CONNECTION_RESOURCE: Final = "connection"
"""Resource of events about the connection itself."""

_MEMBERSHIP_VERBS: Final = {
    ChangeKind.CREATED: "member_added",
    ChangeKind.RESTORED: "member_added",
    ChangeKind.UPDATED: "member_updated",
    ChangeKind.DELETED: "member_removed",
}
_ASSIGNMENT_VERBS: Final = {
    ChangeKind.CREATED: "assigned",
    ChangeKind.RESTORED: "assigned",
    ChangeKind.UPDATED: "assignment_updated",
    ChangeKind.DELETED: "unassigned",
}
_VERBS: Final = {"group_members": _MEMBERSHIP_VERBS, "role_assignments": _ASSIGNMENT_VERBS}
"""Verbs for relations, which are added and removed rather than created and deleted."""


def _build_event_types() -> dict[tuple[str, str], str]:
    names = {
        (resource.name, kind.value): f"{resource.event_noun}.{_get_verb(resource.name, kind)}"
        for resource in RESOURCES.values()
        for kind in ChangeKind
    }
    connection_types = {
        (CONNECTION_RESOURCE, change.value): f"{CONNECTION_RESOURCE}.{change}"
        for change in ConnectionChange
    }
    return names | connection_types


def _get_verb(resource: str, kind: ChangeKind) -> str:
    return _VERBS[resource][kind] if resource in _VERBS else kind.value


EVENT_TYPES: Final[Mapping[tuple[str, str], str]] = MappingProxyType(_build_event_types())
"""Type names such as ``user.created``, without prefix, by resource and change."""
