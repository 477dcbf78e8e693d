"""Graph's throttling: the service of a path, and the pause that a response asks for."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.resource import Resource, ServiceName
from models.resources import RESOURCES, STREAMED
from worker.graph.throttle import SERVICES, GraphThrottle
from worker.graph.urls import build_object_path
from worker.nango.response import ApiResponse

NOW = 1_800_000_000.0
THROTTLE = GraphThrottle()


@pytest.mark.parametrize(
    ("status", "sent", "seconds"),
    [
        (200, {}, 0),
        (200, {"x-ms-throttle-limit-percentage": "0.79"}, 0),
        (200, {"x-ms-throttle-limit-percentage": "0.8"}, 0.5),
        (200, {"x-ms-throttle-limit-percentage": "0.9"}, 2.875),
        (200, {"x-ms-throttle-limit-percentage": "1.0"}, 10),
        (200, {"x-ms-throttle-limit-percentage": "900"}, 10),
        (200, {"x-ms-throttle-limit-percentage": "much"}, 0),
        (200, {"ratelimit-remaining": "5", "ratelimit-reset": "20"}, 8),
        (200, {"ratelimit-remaining": "0", "ratelimit-reset": "900"}, 60),
        (429, {"retry-after": "7"}, 0),
        (429, {"retry-after": "7", "x-ms-throttle-scope": "Tenant_Application/Read/a/b"}, 7),
        (429, {"retry-after": "7", "ratelimit-reset": "31"}, 31),
        (503, {"retry-after": "40", "ratelimit-reset": "31"}, 40),
    ],
)
def test_graph_is_heeded_before_it_refuses(
    status: int, sent: dict[str, str], seconds: float
) -> None:
    assert THROTTLE.parse_pause(ApiResponse(status, b"", sent), NOW) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("path", "service"),
    [
        ("/v1.0/sites/getAllSites?$select=id", "sharepoint"),
        ("/v1.0/sites/contoso.sharepoint.com,1,2?$select=id", "sharepoint"),
        ("/v1.0/sites?search=*", "sharepoint"),
        ("/v1.0/users?$filter=a/sites", "directory"),
        ("/v1.0/users/delta?$deltatoken=x", "directory"),
        ("/v1.0/groups/1/members?$select=id", "directory"),
        ("/v1.0/organization?$select=id,displayName", "directory"),
        ("/v1.0/$batch", "directory"),
        ("/connections", "directory"),
    ],
)
def test_sites_are_sharepoints_and_the_rest_is_the_directorys(path: str, service: str) -> None:
    assert THROTTLE.find_service(path) == service


def test_a_collection_is_throttled_by_one_service() -> None:
    """Of a request, only the collection tells which service answers it."""
    services = {(one.source.path.split("/")[1], one.service) for one in STREAMED}
    assert len(services) == len({collection for collection, _ in services})
    assert (
        {one.service for one in RESOURCES.values()} <= set(SERVICES) == set(get_args(ServiceName))
    )


@pytest.mark.parametrize("resource", STREAMED, ids=lambda one: one.name)
def test_every_request_for_a_resource_belongs_to_its_service(resource: Resource) -> None:
    links = [
        build_object_path(resource, *resource.address),
        *(f"/v1.0{one.path}" for one in resource.sources.values()),
    ]
    assert {THROTTLE.find_service(link) for link in links} == {resource.service}


@given(st.text())
def test_every_path_belongs_to_a_service_whose_pauses_are_shown(path: str) -> None:
    assert THROTTLE.find_service(path) in SERVICES
