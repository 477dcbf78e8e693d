"""The registry of all mirrored Graph resources, in display order."""

from collections.abc import Iterator
from string import Formatter
from typing import Final, NamedTuple

from models.property import GUID, TEXT, Property
from models.resource import Resource
from models.resources.administrative_unit_members import ADMINISTRATIVE_UNIT_MEMBERS
from models.resources.administrative_units import ADMINISTRATIVE_UNITS
from models.resources.app_role_assignments import APP_ROLE_ASSIGNMENTS
from models.resources.group_members import GROUP_MEMBERS
from models.resources.group_owners import GROUP_OWNERS
from models.resources.groups import GROUPS
from models.resources.managers import MANAGERS
from models.resources.oauth2_permission_grants import OAUTH2_PERMISSION_GRANTS
from models.resources.other_app_role_assignments import OTHER_APP_ROLE_ASSIGNMENTS
from models.resources.role_assignment_schedule_instances import (
    ROLE_ASSIGNMENT_SCHEDULE_INSTANCES,
)
from models.resources.role_assignments import ROLE_ASSIGNMENTS
from models.resources.role_definitions import ROLE_DEFINITIONS
from models.resources.role_eligibility_schedule_instances import (
    ROLE_ELIGIBILITY_SCHEDULE_INSTANCES,
)
from models.resources.service_principals import SERVICE_PRINCIPALS
from models.resources.sign_in_activity import SIGN_IN_ACTIVITY
from models.resources.sites import SITES
from models.resources.subscribed_skus import SUBSCRIBED_SKUS
from models.resources.users import USERS

_DECLARED: Final = (
    USERS,
    GROUPS,
    GROUP_MEMBERS,
    GROUP_OWNERS,
    SITES,
    ROLE_DEFINITIONS,
    ROLE_ASSIGNMENTS,
    ROLE_ELIGIBILITY_SCHEDULE_INSTANCES,
    ROLE_ASSIGNMENT_SCHEDULE_INSTANCES,
    SERVICE_PRINCIPALS,
    OAUTH2_PERMISSION_GRANTS,
    SUBSCRIBED_SKUS,
    ADMINISTRATIVE_UNITS,
    ADMINISTRATIVE_UNIT_MEMBERS,
    MANAGERS,
    SIGN_IN_ACTIVITY,
    APP_ROLE_ASSIGNMENTS,
    OTHER_APP_ROLE_ASSIGNMENTS,
)
RESOURCES: Final[dict[str, Resource]] = {resource.name: resource for resource in _DECLARED}

STREAMED: Final[tuple[Resource, ...]] = tuple(r for r in RESOURCES.values() if not r.is_edge)
"""Resources with their own walk; edges are read with their parent."""


class Reference(NamedTuple):
    """A property that holds ids of another resource's objects."""

    resource: Resource
    property: Property


REFERENCES: Final[dict[str, tuple[Reference, ...]]] = {
    name: tuple(
        Reference(resource, one)
        for resource in RESOURCES.values()
        for one in resource.properties
        if name in one.references
    )
    for name in RESOURCES
}
"""The properties that point at each resource, in display order."""

EDGES: Final[tuple[Resource, ...]] = tuple(r for r in RESOURCES.values() if r.is_edge)

ERASABLE: Final[tuple[str, ...]] = tuple(name for name, one in RESOURCES.items() if one.erasable)
"""Names of the resources whose objects are people, or may be named after people."""

ERASABLE_REFERENCES: Final[dict[str, tuple[Property, ...]]] = {
    resource.name: tuple(
        one for one in resource.columns if not set(one.references).isdisjoint(ERASABLE)
    )
    for resource in RESOURCES.values()
}
"""Columns with ids of objects that can be erased. A row is erased with an object it names."""

EDGES_IN: Final[dict[str, tuple[Resource, ...]]] = {
    name: tuple(edge for edge in EDGES if edge.parent == name) for name in RESOURCES
}
"""The edges that arrive inside each resource's objects."""


class EdgeEnd(NamedTuple):
    """An edge, and those of its two columns that hold ids of one resource's objects."""

    edge: Resource
    columns: tuple[str, ...]


EDGES_OF: Final[dict[str, tuple[EdgeEnd, ...]]] = {
    name: tuple(
        EdgeEnd(edge, columns)
        for edge in EDGES
        if (columns := tuple(one.property.name for one in found if one.resource is edge))
    )
    for name, found in REFERENCES.items()
}
"""The edges that connect each resource's objects: they end with an object that is deleted."""

BELOW: Final[dict[str, tuple[Resource, ...]]] = {
    name: tuple(
        one for one in STREAMED if one.source.below is not None and one.partitioned_by == name
    )
    for name in RESOURCES
}
"""The resources that are lists below the objects of each resource."""

EDGE_ENDS: Final = frozenset(name for name, found in EDGES_OF.items() if found)
"""Names of the resources whose objects edges connect."""


def list_member_resources(edge: Resource) -> tuple[Resource, ...]:
    """Return the mirrored resources whose objects can be members of an edge's parents."""
    return tuple(RESOURCES[name] for name in edge.key_columns[1].references)


def list_edge_ends(edge: Resource) -> tuple[str, ...]:
    """Return the names of the resources that an edge connects, the parent first."""
    return tuple(dict.fromkeys((edge.parent, *edge.key_columns[1].references)))


def list_unknown_names(resource: Resource) -> Iterator[str]:
    """Yield what a resource names that is not declared."""
    properties = {one.name for one in resource.properties}
    phrased = {name for _, name, _, _ in Formatter().parse(resource.phrase) if name}
    own = {
        *resource.labels,
        *phrased,
        *(one for p in resource.properties for one in p.derived_from),
    }
    ways = resource.sources.values()
    own |= {way.filtered_by for way in ways if way.filtered_by}
    own |= {way.below.property for way in ways if way.below}
    yield from sorted(own - properties)
    others = {resource.parent} if resource.edge else set()
    others |= {one for p in resource.properties for one in p.references}
    yield from sorted(others - RESOURCES.keys())


def _check_fallbacks(resource: Resource) -> None:
    listed = [one for one in resource.fallbacks if one.at_delta_start]
    if resource.source.follows_delta is not bool(listed):
        raise ValueError(
            f"models/resources/{resource.name}.py needs a fallback for tenants without delta"
            " if it has a delta path, and none otherwise"
        )


def _check_edge(resource: Resource) -> None:
    if resource.edge is None:
        return
    parent = RESOURCES[resource.parent]
    if resource.relation not in parent.relations:
        raise ValueError(
            f"models/resources/{resource.name}.py: {parent.name} has no {resource.relation}"
        )
    if [one.type for one in resource.columns] != [GUID, GUID, TEXT] or len(resource.key) != 2:
        raise ValueError(
            f"models/resources/{resource.name}.py needs three columns: the key of the parent, the"
            " key of the member, and the member's type"
        )


def _check_below(resource: Resource) -> None:
    below = resource.source.below
    if below is None:
        return
    parents = RESOURCES[resource.partitioned_by]
    names = list(RESOURCES)
    if (
        names.index(parents.name) > names.index(resource.name)
        or parents.key_columns[0].type != GUID
    ):
        raise ValueError(
            f"models/resources/{resource.name}.py: {parents.name} must be registered before it, and"
            " have a GUID as its key"
        )
    if "{parent}" not in resource.source.path or below.property not in resource.address:
        raise ValueError(
            f"models/resources/{resource.name}.py: its path needs {{parent}}, and the path of one"
            f" object {{{below.property}}}"
        )
    if below.omits and below.omits.column not in parents.column_names:
        raise ValueError(
            f"models/resources/{resource.name}.py: {parents.name} has no {below.omits.column}"
        )


for _resource in RESOURCES.values():
    _check_fallbacks(_resource)
    if _unknown := list(list_unknown_names(_resource)):
        raise ValueError(
            f"models/resources/{_resource.name}.py names {', '.join(_unknown)}, unknown"
        )
    _check_edge(_resource)
    _check_below(_resource)
    _ = _resource.record  # built here, before threads ask for it
