"""The requests for resources that the probe has no steps of their own for: one ``$batch``. Pure.

Each resource is asked for one object, and for its changes from now on if it has a delta.
"""

from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Final, NamedTuple

from models.resource import Resource
from models.resources import RESOURCES, STREAMED
from models.resources.groups import GROUPS
from models.resources.role_assignments import ROLE_ASSIGNMENTS
from models.resources.role_definitions import ROLE_DEFINITIONS
from models.resources.sites import SITES
from models.resources.users import USERS
from worker.graph.links import path_from_link
from worker.graph.urls import build_delta_url, build_listing_url, build_token_url
from worker.probe.scope import ProbeScope

WITH_OWN_STEPS: Final = (USERS, GROUPS, SITES, ROLE_DEFINITIONS, ROLE_ASSIGNMENTS)
FURTHER: Final[tuple[Resource, ...]] = tuple(one for one in STREAMED if one not in WITH_OWN_STEPS)


class FurtherRequest(NamedTuple):
    """One item of the ``$batch``."""

    resource: Resource
    name: str
    target: str


def list_further_requests(scope: ProbeScope) -> list[FurtherRequest]:
    """Return the items, in display order of their resources."""
    wanted = (
        one for one in FURTHER if scope.includes(one) and not find_missing_parents(one, scope)
    )
    return [
        request
        for resource in wanted
        for request in _iter_requests(resource, scope.list_left_out(resource))
    ]


def _iter_requests(resource: Resource, without: Collection[str]) -> Iterator[FurtherRequest]:
    source = resource.source
    if source.below:
        source = replace(source, path=source.below.probe_path)
    top = 1 if source.page_size else None
    listed = build_listing_url(resource, without, source=source, top=top)
    yield FurtherRequest(resource, resource.name, path_from_link(listed))
    if source.follows_delta:
        build = build_token_url if source.takes_token else build_delta_url
        yield FurtherRequest(
            resource, name_delta(resource), path_from_link(build(resource, without))
        )


def find_missing_parents(resource: Resource, scope: ProbeScope) -> str:
    """Return the name of the resource below whose objects it is read if that is off, else empty."""
    if resource.source.below is None or scope.includes(RESOURCES[resource.partitioned_by]):
        return ""
    return resource.partitioned_by


def name_delta(resource: Resource) -> str:
    """Return the name of a resource's request for changes."""
    return f"{resource.name}, delta"
