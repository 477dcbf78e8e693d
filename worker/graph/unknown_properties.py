"""Properties that a tenant's Graph does not know: finds their names in a refusal.

Graph refuses a whole request for one unknown name in ``$select``, usually with a message that
contains it: "Could not find a property named 'x' on type 'microsoft.graph.user'."
"""

import re
from collections.abc import Collection
from typing import Final

from models.resource import Resource
from worker.core.errors import ResourceRefused

PROPERTY_REFUSAL_STATUSES: Final = frozenset({400, 501})
"""Statuses with which Graph refuses a property; 501 if it is for single objects only."""

_WORD: Final = re.compile(r"[A-Za-z]\w*")


def find_named_properties(
    resource: Resource, refusal: ResourceRefused, left_out: Collection[str]
) -> list[str]:
    """Return the optional properties that a refusal names.

    Requests already omit those ``left_out``. In quotes any name counts; elsewhere only one with
    capitals, such as ``jobTitle``, which is no English word.
    """
    if refusal.status not in PROPERTY_REFUSAL_STATUSES:
        return []
    rest = [name for name in resource.optional if name not in left_out]
    quoted = set(re.findall(r"[\'\"\u2018\u2019`]([A-Za-z]\w*)", refusal.graph_message))
    words = {word for word in _WORD.findall(refusal.graph_message) if word != word.lower()}
    found = [name for name in rest if name in quoted]
    return found or [name for name in rest if name in words]


def can_be_about_property(resource: Resource, refusal: ResourceRefused) -> bool:
    """Whether a refusal without a name may be about a property."""
    if refusal.status not in PROPERTY_REFUSAL_STATUSES or not resource.optional:
        return False
    said = refusal.graph_message.lower()
    return not said or "propert" in said or "select" in said
