"""Nango's list of connections: once each, and an absence proves nothing by itself."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs

import msgspec
import pytest

from sandbox.tenant import Nango, Request, Response, Server, Tenant
from worker.core.errors import ConfigurationError, MalformedResponse, MirrorError
from worker.graph.throttle import GraphThrottle
from worker.nango.client import ConnectionRef, NangoClient, RetryPolicy
from worker.nango.connections import is_gone, list_connections

JSON = {"content-type": "application/json"}


@pytest.fixture
def client(nango: Nango, nango_server: Server) -> Iterator[NangoClient]:
    nango.log.clear()
    opened = NangoClient(
        nango_server.url, nango.key, throttle=GraphThrottle(), retry_policy=RetryPolicy(2.0, 0.1)
    )
    yield opened
    opened.close()


def row(number: int, **extra: Any) -> dict[str, Any]:
    return {"id": number, "connection_id": f"c{number}", "provider_config_key": "entra"} | extra


def answer(content: Any, status: int = 200) -> Response:
    body = content if isinstance(content, bytes) else msgspec.json.encode(content)
    return Response(status, body, JSON)


def test_connections_are_listed_with_their_metadata(nango: Nango, client: NangoClient) -> None:
    wanted = {"tenant_mirror": {"enabled": False}}
    nango.add_connection("contoso", Tenant(seed=3, users=1), metadata=wanted)
    (found,) = list_connections(client).rows
    assert found.ref == ConnectionRef("contoso", "entra")
    assert found.provider == "microsoft-oauth2-cc"
    assert found.metadata == wanted
    assert not found.is_failing
    assert str(found.ref) == "entra/contoso"


def test_rows_that_repeat_while_paging_count_once(nango: Nango, client: NangoClient) -> None:
    rows = [row(number) for number in range(2500)]

    def page(request: Request) -> Response:
        number = int(parse_qs(request.query)["page"][0])
        start = 2000 * number - (5 if number else 0)
        return answer({"connections": rows[start : start + 2000]})

    nango.before_response = page
    assert sorted(one.id for one in list_connections(client).rows) == list(range(2500))


def test_an_older_nango_that_takes_no_limit_is_asked_without(
    nango: Nango, client: NangoClient
) -> None:
    def strict(request: Request) -> Response:
        if request.query:
            return answer({"error": {"code": "invalid_query_params"}}, 400)
        return answer({"connections": [row(1)]})

    nango.before_response = strict
    assert [one.id for one in list_connections(client).rows] == [1]
    assert nango.calls.total == 3


def test_an_older_nango_with_a_lower_limit_is_obeyed(nango: Nango, client: NangoClient) -> None:
    def capped(request: Request) -> Response:
        if "limit=2000" in request.query:
            return answer({"error": {"code": "invalid_query_params"}}, 400)
        return answer({"connections": [row(1)]})

    nango.before_response = capped
    assert [one.id for one in list_connections(client).rows] == [1]


@pytest.mark.parametrize("size", [1, 2000, 3000])
def test_a_server_that_ignores_paging_is_not_asked_for_ever(
    nango: Nango, client: NangoClient, size: int
) -> None:
    rows = answer({"connections": [row(number) for number in range(size)]})
    nango.before_response = lambda _: rows
    assert len(list_connections(client).rows) == size
    assert nango.calls.total <= 2


def test_of_two_rows_with_one_address_the_newer_counts(nango: Nango, client: NangoClient) -> None:
    """Deleted and connected again under the same id while we read."""
    page = {"connections": [row(1, metadata={"a": 1}), row(7) | {"connection_id": "c1"}, row(2)]}
    nango.before_response = lambda _: answer(page)
    assert [one.id for one in list_connections(client).rows] == [7, 2]


@pytest.mark.parametrize(
    "bad",
    [
        {"id": None},
        {"id": 1.5},
        {"connection_id": None},
        {"connection_id": ""},
        {"connection_id": "x" * 5000},
        {"connection_id": "nul\x00"},
        {"provider_config_key": 7},
    ],
)
def test_a_row_that_cannot_be_read_leaves_the_others(
    nango: Nango, client: NangoClient, bad: dict[str, Any]
) -> None:
    rows: list[Any] = [row(1), row(2) | bad, "odd", None, row(3)]
    nango.before_response = lambda _: answer({"connections": rows})
    found = list_connections(client)
    assert ([one.id for one in found.rows], found.unreadable) == ([1, 3], 3)


@pytest.mark.parametrize(
    ("errors", "failing"),
    [
        ([], False),
        (None, False),
        ("odd", False),
        ([None, 1, {}], False),
        ([{"type": "sync", "log_id": "1"}], False),
        ([{"type": "sync"}, {"type": "auth", "log_id": "2"}], True),
    ],
)
def test_an_error_of_the_token_is_a_hint(
    nango: Nango, client: NangoClient, errors: Any, failing: bool
) -> None:
    nango.before_response = lambda _: answer({"connections": [row(1, errors=errors)]})
    assert [one.is_failing for one in list_connections(client).rows] == [failing]


@pytest.mark.parametrize(
    "response",
    [
        answer({"error": {"code": "x"}}, 400),
        answer({"error": {"code": "not_found"}}, 404),
        answer({"error": {"code": "unknown_account"}}, 401),
        Response(200, b"<html>", {"content-type": "text/html"}),
    ],
)
def test_a_list_that_is_refused_halts(
    nango: Nango, client: NangoClient, response: Response
) -> None:
    nango.before_response = lambda _: response
    with pytest.raises(ConfigurationError):
        list_connections(client)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"connections": [{"id": "x"}]}',
        b'{"connections": [{"id": 1}]}',
        b'{"connections": [',
        b'{"connections": [{"id": 1, "connection_id": "\xff", "provider_config_key": "x"}]}',
        b'{"connections": ' + b"[" * 100_000,
    ],
)
def test_a_list_that_cannot_be_read_is_torn(nango: Nango, client: NangoClient, body: bytes) -> None:
    """Read as empty, it would retire every connection."""
    nango.before_response = lambda _: answer(body)
    with pytest.raises(MalformedResponse):
        list_connections(client)


def test_a_connection_that_is_there_is_not_gone(nango: Nango, client: NangoClient) -> None:
    nango.add_connection("a b/c?d", Tenant(seed=3, users=1))
    assert not is_gone(client, ConnectionRef("a b/c?d", "entra"))
    assert nango.log[-1].request.path == "/connections/a%20b%2Fc%3Fd"


def test_a_connection_that_nango_does_not_find_is_gone(nango: Nango, client: NangoClient) -> None:
    nango.add_connection("contoso", Tenant(seed=3, users=1))
    assert is_gone(client, ConnectionRef("nobody", "entra"))
    assert is_gone(client, ConnectionRef("contoso", "unknown"))


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (404, b"<html>not found</html>"),
        (404, b""),
        (404, {"error": {"code": "feature_disabled"}}),
        (400, {"error": {"code": "invalid_query_params"}}),
        (400, b"\xff"),
        (200, {}),
    ],
)
def test_any_other_answer_does_not_prove_that_it_is_gone(
    nango: Nango, client: NangoClient, status: int, content: Any
) -> None:
    nango.before_response = lambda _: answer(content, status)
    try:
        gone = is_gone(client, ConnectionRef("contoso", "entra"))
    except MirrorError:
        return
    assert not gone
