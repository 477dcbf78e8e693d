"""A link of Graph's is checked for where it points and then used byte for byte."""

from collections.abc import Iterator

import pytest

from sandbox.tenant import Nango, Request, Response, Server
from worker.core.errors import MalformedResponse
from worker.graph.links import HOSTS, MAX_LINK_LENGTH, path_from_link, peek_next_link, to_batch_url
from worker.graph.throttle import GraphThrottle
from worker.nango.client import ConnectionRef, NangoClient

GRAPH = "https://graph.microsoft.com"
QUERIES = [
    "$skiptoken=RFNwdAIAAQ%2BAAA%3d%3D",
    "$deltatoken=a+b%20c",
    "$filter=startswith(displayName,%27O%27%27Brien%27)",
    "$select=id,displayName&$top=999&$select=id",
    "%24skiptoken=x&$skipToken=y",
    "token=1;2;3;https://graph.microsoft.com/v1.0/sites",
    "a=%zz&b=100%&c=%",
    "a||b&c=[1]&d=~!*()@:/?&&=",
    "",
]


@pytest.mark.parametrize("query", QUERIES)
def test_the_query_of_a_link_is_kept_byte_for_byte(query: str) -> None:
    assert path_from_link(f"{GRAPH}/v1.0/users/delta?{query}") == f"/v1.0/users/delta?{query}"


@pytest.mark.parametrize(
    "path",
    [
        "/v1.0/users",
        "/v1.0/users/microsoft.graph.delta()",
        "/v1.0/sites/oneDrive.getAllSites",
        "/v1.0/groups('0a')/members/$/microsoft.graph.user",
        "/v1.0/users/a%2Fb..c",
        "/v1.0/users/...",
    ],
)
def test_the_path_of_a_link_is_kept_byte_for_byte(path: str) -> None:
    assert path_from_link(f"{GRAPH}{path}?x=1") == f"{path}?x=1"
    assert path_from_link(f"{GRAPH}{path}") == path


@pytest.mark.parametrize("host", sorted(HOSTS))
def test_every_cloud_of_microsoft_is_graph(host: str) -> None:
    assert path_from_link(f"https://{host}/v1.0/users") == "/v1.0/users"


@pytest.mark.parametrize(
    "start", ["https://graph.microsoft.com:443", "HTTPS://Graph.Microsoft.COM"]
)
def test_spellings_of_the_same_host_are_graph(start: str) -> None:
    assert path_from_link(f"{start}/v1.0/users?$skiptoken=A") == "/v1.0/users?$skiptoken=A"


@pytest.mark.parametrize(
    "link",
    [
        "https://evil.example/v1.0/users",
        "https://graph.microsoft.com.evil.example/v1.0/users",
        "https://graph.microsoft.com./v1.0/users",
        "https://evil-graph.microsoft.com/v1.0/users",
        "https://graph.microsoft.comevil.example/v1.0/users",
        "https://login.microsoftonline.com/v1.0/users",
        "https://graph.microsoft.com@evil.example/v1.0/users",
        "https://user@graph.microsoft.com/v1.0/users",
        "https://user:password@graph.microsoft.com/v1.0/users",
        "https://@graph.microsoft.com/v1.0/users",
        "https://evil.example/@graph.microsoft.com/v1.0/users",
        "https://evil.example?@graph.microsoft.com/v1.0/users",
        "https://evil.example#@graph.microsoft.com/v1.0/users",
        "https://evil.example\\@graph.microsoft.com/v1.0/users",
        "https://graph.microsoft.com\\.evil.example/v1.0/users",
        "https://127.0.0.1/v1.0/users",
        "https://[::1]/v1.0/users",
        "https://[graph.microsoft.com]/v1.0/users",
        "https://[/v1.0/users",
        "https://gr\u0430ph.microsoft.com/v1.0/users",
        "https://graph\uff0emicrosoft\uff0ecom/v1.0/users",
        "https://graph\u3002microsoft.com/v1.0/users",
        "https://xn--grph-ina.microsoft.com/v1.0/users",
        "https://%67raph.microsoft.com/v1.0/users",
        "//graph.microsoft.com/v1.0/users",
        "/v1.0/users",
        "https:/v1.0/users",
        "https:graph.microsoft.com/v1.0/users",
        "https:///graph.microsoft.com/v1.0/users",
        "v1.0/users",
        "",
    ],
)
def test_a_link_to_a_foreign_host_is_refused(link: str) -> None:
    with pytest.raises(MalformedResponse):
        path_from_link(link)


@pytest.mark.parametrize("scheme", ["http", "ftp", "file", "javascript", "ws", "httpss"])
def test_a_link_with_another_scheme_is_refused(scheme: str) -> None:
    with pytest.raises(MalformedResponse):
        path_from_link(f"{scheme}://graph.microsoft.com/v1.0/users")


@pytest.mark.parametrize("port", ["80", "444", "8443", "0", "65536", "-1", "44a", "%34%34%33"])
def test_a_link_to_another_port_is_refused(port: str) -> None:
    with pytest.raises(MalformedResponse):
        path_from_link(f"https://graph.microsoft.com:{port}/v1.0/users")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/v1.0",
        "/v1.0?x=1",
        "/beta/users",
        "/V1.0/users",
        "/v1.00/users",
        "//v1.0/users",
        "/v1%2e0/users",
        "/proxy/v1.0/users",
        "/v1.0/../beta/users",
        "/v1.0/..",
        "/v1.0/.",
        "/v1.0/./users",
        "/v1.0/%2e%2e/beta/users",
        "/v1.0/%2E./beta/users",
        "/v1.0/.%2e/beta/users",
        "/v1.0/users/%2e%2E",
        "/v1.0/..\\beta/users",
        "/v1.0/users#fragment",
        "/v1.0/users?$skiptoken=a#fragment",
        "/v1.0/users#",
    ],
)
def test_a_link_that_leaves_the_version_is_refused(path: str) -> None:
    with pytest.raises(MalformedResponse):
        path_from_link(f"{GRAPH}{path}")


@pytest.mark.parametrize(
    "character", ["\n", "\r", "\t", "\0", " ", "\x7f", "\x1b", "\u00a0", "\u2028", "\u00e9", "\\"]
)
@pytest.mark.parametrize(
    "place", ["{c}{g}/v1.0/a", "{g}{c}/v1.0/a", "{g}/v1.0/{c}a", "{g}/v1.0/a{c}"]
)
def test_control_characters_and_letters_beyond_ascii_are_refused(
    character: str, place: str
) -> None:
    """Parsers drop some of them silently, so that what is checked is not what is sent."""
    with pytest.raises(MalformedResponse):
        path_from_link(place.format(c=character, g=GRAPH))


def test_a_link_that_nango_could_not_take_is_refused() -> None:
    start = f"{GRAPH}/v1.0/users?$skiptoken="
    longest = start + "a" * (MAX_LINK_LENGTH - len(start))
    assert len(path_from_link(longest)) == MAX_LINK_LENGTH - len(GRAPH)
    with pytest.raises(MalformedResponse):
        path_from_link(f"{longest}a")


def test_a_refused_link_is_never_quoted() -> None:
    """A token in a log would be a token given away."""
    with pytest.raises(MalformedResponse) as caught:
        path_from_link("https://evil.example/v1.0/users?$skiptoken=secret")
    assert "secret" not in str(caught.value)
    assert "evil" not in str(caught.value)
    assert caught.value.after


def test_a_batch_takes_targets_relative_to_the_version() -> None:
    assert to_batch_url("/v1.0/users/delta?$skiptoken=%2B") == "/users/delta?$skiptoken=%2B"


# ---- through the client to a server


@pytest.fixture
def url(nango_server: Server) -> str:
    return nango_server.url


@pytest.fixture
def client(nango: Nango, url: str) -> Iterator[NangoClient]:
    nango.log.clear()
    nango.before_response = _page
    opened = NangoClient(url, nango.key, throttle=GraphThrottle())
    yield opened
    opened.close()


def _page(_request: Request) -> Response:
    return Response(200, b'{"value":[]}', {"content-type": "application/json"})


@pytest.mark.parametrize("query", QUERIES)
def test_a_link_reaches_nango_byte_for_byte(client: NangoClient, nango: Nango, query: str) -> None:
    target = path_from_link(f"{GRAPH}/v1.0/groups/microsoft.graph.delta()?{query}")
    client.proxy(ConnectionRef("contoso", "entra"), target)
    request = nango.log[-1].request
    assert request.path == "/proxy/v1.0/groups/microsoft.graph.delta()"
    assert request.query == query


def test_a_long_link_reaches_nango_whole(client: NangoClient, nango: Nango) -> None:
    link = f"{GRAPH}/v1.0/users?$skiptoken="
    link += "a" * (MAX_LINK_LENGTH - len(link))
    client.proxy(ConnectionRef("contoso", "entra"), path_from_link(link))
    assert nango.log[-1].request.target == f"/proxy{path_from_link(link)}"


def test_a_host_under_a_base_path_keeps_it(nango: Nango, url: str) -> None:
    nango.before_response = _page
    client = NangoClient(f"{url}/some/base/", nango.key, throttle=GraphThrottle())
    client.proxy(ConnectionRef("contoso", "entra"), "/v1.0/users?$skiptoken=%2B+")
    client.close()
    assert nango.log[-1].request.target == "/some/base/proxy/v1.0/users?$skiptoken=%2B+"


@pytest.mark.parametrize(
    "body",
    [
        b'{"@odata.context":"c","@odata.nextLink":"https://graph.microsoft.com/v1.0/users?a=1","value":[]}',
        b'{"value":[{"id":"1"}], "@odata.nextLink" : "https://graph.microsoft.com/v1.0/users?a=1"}',
    ],
    ids=["ahead of the objects", "behind them"],
)
def test_the_next_link_is_seen_before_a_page_is_understood(body: bytes) -> None:
    assert peek_next_link(body) == "https://graph.microsoft.com/v1.0/users?a=1"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"value":[]}',
        b'{"members@odata.nextLink":"https://graph.microsoft.com/v1.0/x"}',
        b'{"@odata.nextLink":null}',
        b'{"@odata.nextLink":"https://graph.microsoft.com/v1.0/us\\u0065rs"}',
        b'{"@odata.nextLink":"https://graph',
    ],
)
def test_a_next_link_that_is_not_plain_to_see_waits_for_the_page(body: bytes) -> None:
    assert peek_next_link(body) is None
