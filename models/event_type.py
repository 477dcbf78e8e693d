"""The names under which change events leave: one for each resource and change."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from models.change_event import ChangeKind, ConnectionChange
from models.resources import RESOURCES

CONNECTION: Final = "connection"
"""Resource of the events that tell of the connection itself."""

_EDGE: Final = {
    ChangeKind.CREATED: "member_added",
    ChangeKind.RESTORED: "member_added",
    ChangeKind.UPDATED: "member_updated",
    ChangeKind.DELETED: "member_removed",
}
_ASSIGNMENT: Final = {
    ChangeKind.CREATED: "assigned",
    ChangeKind.RESTORED: "assigned",
    ChangeKind.UPDATED: "assignment_updated",
    ChangeKind.DELETED: "unassigned",
}
_VERBS: Final = {"group_members": _EDGE, "role_assignments": _ASSIGNMENT}
"""What is a relation is said to come and go, rather than to be created and deleted."""


def _names() -> dict[tuple[str, str], str]:
    names = {
        (resource.name, kind.value): f"{resource.event_noun}.{_verb(resource.name, kind)}"
        for resource in RESOURCES.values()
        for kind in ChangeKind
    }
    told = {(CONNECTION, change.value): f"{CONNECTION}.{change}" for change in ConnectionChange}
    return names | told


def _verb(resource: str, kind: ChangeKind) -> str:
    return _VERBS[resource][kind] if resource in _VERBS else kind.value


EVENT_TYPES: Final[Mapping[tuple[str, str], str]] = MappingProxyType(_names())
"""``user.created`` and the like, by resource and change; a prefix goes before."""
