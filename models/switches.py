"""What settings may switch off or leave out."""

from collections.abc import Mapping
from typing import Final

from models.resource import Resource
from models.resources import BELOW, EDGES, EDGES_IN, RESOURCES

_NAMES_CUSTOMER: Final = {"users": "user_principal_name"}
"""Columns that tell how a customer is called: its domains."""

_TELLS_AGE: Final = "created_date_time"
"""Column that tells of a restored member that it existed before."""


def find_off(switches: Mapping[str, bool]) -> frozenset[str]:
    """Return the resources that are off by these switches; an edge is off with its parent."""
    every = RESOURCES.values()
    off = {one.name for one in every if not switches.get(one.name, not one.is_optional)}
    return frozenset(off | {edge.name for edge in EDGES if edge.parent in off})


def list_droppable(resource: Resource) -> list[str]:
    """Return the Graph properties that settings may leave out: those that the mirror can spare."""
    needed = _find_needed(resource)
    return [one.graph_name for one in resource.sent if one.name not in needed and not one.key]


def _find_needed(resource: Resource) -> set[str]:
    """Return the columns and properties that reads, deletions and rechecks depend on."""
    needed = {way.filtered_by for way in resource.sources.values()}
    needed |= {way.below.property for way in resource.sources.values() if way.below}
    needed |= {*resource.address, _NAMES_CUSTOMER.get(resource.name, "")}
    needed |= {
        p for one in resource.columns if one.name in resource.address for p in one.derived_from
    }
    needed |= {edge.hidden_by.column for edge in EDGES_IN[resource.name] if edge.hidden_by}
    below = (one.source.below for one in BELOW[resource.name])
    needed |= {one.omits.column for one in below if one and one.omits}
    edges = (one.edge for one in EDGES if one.edge)
    if any(edge.unreported_after_restore == resource.name for edge in edges):
        needed.add(_TELLS_AGE)
    return needed
