"""For any link: it is refused, or it is Graph's and unchanged."""

import string
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sandbox.tenant import Nango, Request, Response, serve
from worker.core.errors import MalformedResponse
from worker.graph.links import HOSTS, path_from_link
from worker.graph.throttle import GraphThrottle
from worker.nango.client import ConnectionRef, NangoClient

GRAPH = "https://graph.microsoft.com"
UNCHANGED = "".join(sorted(set(string.printable[:94]) - set('#\\"<>')))
"""What URLs may hold in a query; httpx escapes the quotation mark and angle brackets."""

parts = st.sampled_from([*"/\\@:#?.[] \n\u3002", "https:", "http:", "//", ":443", "..", "%2e"]) | (
    st.sampled_from(["graph.microsoft.com", "evil.example", "/v1.0/", "/beta/", "users"])
)
links = (
    st.lists(parts, max_size=10).map("".join)
    | st.text(max_size=30)
    | (st.text(max_size=20).map(lambda tail: f"{GRAPH}{tail}"))
)


@given(link=links)
@example(link=f"{GRAPH}/v1.0/users")
@settings(max_examples=300, deadline=None)
def test_any_link_is_refused_or_points_into_graphs_version(link: str) -> None:
    try:
        target = path_from_link(link)
    except MalformedResponse:
        return
    assert link.endswith(target)
    assert target.startswith("/v1.0/")
    start = urlsplit(link)
    assert start.scheme == "https"
    assert start.hostname in HOSTS
    assert start.username is None
    joined = urlsplit(f"https://proxy.example{target}")
    assert joined.hostname == "proxy.example"
    assert ".." not in joined.path.split("/")


@given(query=st.text(UNCHANGED, max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_query_is_kept_byte_for_byte(query: str) -> None:
    assert path_from_link(f"{GRAPH}/v1.0/users?{query}") == f"/v1.0/users?{query}"


def _page(_request: Request) -> Response:
    return Response(200, b"{}", {"content-type": "application/json"})


@pytest.fixture(scope="module")
def reached() -> Iterator[tuple[NangoClient, Nango]]:
    nango = Nango(rate_limit=None, log_size=1)
    nango.before_response = _page
    with serve(nango) as server:
        client = NangoClient(server.url, nango.key, throttle=GraphThrottle())
        yield client, nango
        client.close()


@given(query=st.text(UNCHANGED, max_size=60))
@example(query="%27+$%2B%2b%zz%")
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_query_reaches_nango_byte_for_byte(
    reached: tuple[NangoClient, Nango], query: str
) -> None:
    client, nango = reached
    client.proxy(ConnectionRef("contoso", "entra"), path_from_link(f"{GRAPH}/v1.0/users?{query}"))
    assert nango.log[-1].request.path == "/proxy/v1.0/users"
    assert nango.log[-1].request.query == query
