"""What a resource of edges declares: pairs of ids that arrive inside their parent's objects."""

from dataclasses import dataclass
from typing import Final, NamedTuple

_TYPE_PREFIX: Final = "#microsoft.graph."

MEMBER_TYPES: Final = {
    f"{_TYPE_PREFIX}user": "user",
    f"{_TYPE_PREFIX}group": "group",
    f"{_TYPE_PREFIX}device": "device",
    f"{_TYPE_PREFIX}servicePrincipal": "service_principal",
    f"{_TYPE_PREFIX}orgContact": "org_contact",
}
"""The types of members as they are stored, by Graph's name; others are ``other``."""


def name_member_type(graph_type: str) -> str:
    """Return the stored type of a member that is an object of this type."""
    return MEMBER_TYPES.get(f"{_TYPE_PREFIX}{graph_type}", "other")


class HiddenBy(NamedTuple):
    """A column of the parent, and its value where Graph shows members only with a permission."""

    column: str
    value: str


@dataclass(frozen=True, kw_only=True)
class Edge:
    """How the pairs of a parent and a member are read.

    ``Resource.source`` lists the members of one parent: ``{id}`` stands for its key. The columns of
    the resource are the parent's key, the member's key and the type of the member, in this order.
    """

    parent: str
    """The resource whose walk brings the edges."""
    relation: str
    """The property of the parent that carries them, as ``members@delta`` does."""
    member_of: str = ""
    """Lists the parents of one member: ``{members}`` and ``{id}`` stand for the member's resource
    and key. Without it, the members of the parents are listed instead."""
    unreported_after_restore: str = ""
    """The resource of members whose edges deltas do not always report when they are restored."""
    hidden_by: HiddenBy | None = None
    """Where Graph hides members without refusing: an empty answer proves nothing then."""
