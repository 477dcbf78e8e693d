"""Many requests in one call, whatever comes of each."""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from sandbox.tenant import Nango, Request, Response, Server
from worker.core.errors import Trouble
from worker.graph.batch import LIMIT, Batcher
from worker.nango.client import Address, NangoClient, Patience

JSON = {"content-type": "application/json"}
TARGETS = {name: f"/v1.0/users/{name}?$select=id" for name in ("a", "b", "c")}
Answer = Callable[[list[dict[str, Any]]], Any]


@pytest.fixture
def batcher(nango: Nango, _shared_server: Server) -> Iterator[Batcher]:
    nango.log.clear()
    client = NangoClient(_shared_server.url, nango.key, patience=Patience(2.0, 0.1))
    yield Batcher(client, Address("contoso", "entra"))
    client.close()


def item(request: dict[str, Any], status: int = 200, **extra: Any) -> dict[str, Any]:
    return {"id": request["id"], "status": status, "body": {"url": request["url"]}} | extra


def script(nango: Nango, answer: Answer, *, status: int = 200) -> None:
    """Answer a ``$batch`` by its requests, and single calls with their own path."""

    def handle(request: Request) -> Response:
        if not request.path.endswith("/$batch"):
            return Response(200, msgspec.json.encode({"single": request.target}), JSON)
        content = answer(msgspec.json.decode(request.body)["requests"])
        body = content if isinstance(content, bytes) else msgspec.json.encode(content)
        return Response(status, body, JSON | {"request-id": "x"})

    nango.before_response = handle


def test_urls_are_relative_to_the_version_and_unchanged(nango: Nango, batcher: Batcher) -> None:
    script(nango, lambda asked: {"responses": [item(one) for one in asked]})
    odd = {"x": "/v1.0/users?$skiptoken=%27+$%2B", "y": "/v1.0/groups"}
    replies = batcher.get_all(odd)
    assert replies["x"].document() == {"url": "/users?$skiptoken=%27+$%2B"}
    assert replies["y"].document() == {"url": "/groups"}


def test_answers_are_matched_by_id_in_any_order(nango: Nango, batcher: Batcher) -> None:
    script(nango, lambda asked: {"responses": [item(one) for one in reversed(asked)]})
    replies = batcher.get_all(TARGETS)
    for name in TARGETS:
        assert replies[name].document() == {"url": f"/users/{name}?$select=id"}
    assert nango.calls.total == 1


def test_each_answer_is_judged_by_itself(nango: Nango, batcher: Batcher) -> None:
    def answer(asked: list[dict[str, Any]]) -> Any:
        throttled = item(asked[0], 429, headers={"Retry-After": "0.249"})
        return {"responses": [throttled, item(asked[1], 404), item(asked[2], headers=None)]}

    script(nango, answer)
    replies = batcher.get_all(TARGETS)
    assert [reply.status for reply in replies.values()] == [429, 404, 200]
    assert replies["a"].retry_after(0.0) == 0.249


def test_an_answer_that_is_missing_is_asked_for_alone(nango: Nango, batcher: Batcher) -> None:
    script(nango, lambda asked: {"responses": [item(asked[0]), item({"id": "99", "url": "/x"})]})
    replies = batcher.get_all(TARGETS)
    assert replies.keys() == TARGETS.keys()
    assert replies["c"].document() == {"single": "/proxy/v1.0/users/c?$select=id"}
    assert nango.calls.total == 3


@pytest.mark.parametrize("status", [400, 403, 404, 405, 501])
def test_a_refused_envelope_is_not_tried_again(nango: Nango, batcher: Batcher, status: int) -> None:
    script(nango, lambda _: {"error": {"code": "BadRequest"}}, status=status)
    assert batcher.get_all(TARGETS).keys() == TARGETS.keys()
    assert nango.calls.total == 4
    batcher.get_all(TARGETS)
    assert nango.calls.total == 7


def test_an_envelope_of_424_is_read_all_the_same(nango: Nango, batcher: Batcher) -> None:
    script(nango, lambda asked: {"responses": [item(one, 429) for one in asked]}, status=424)
    assert {reply.status for reply in batcher.get_all(TARGETS).values()} == {429}


def test_no_envelope_holds_more_than_graph_takes(nango: Nango, batcher: Batcher) -> None:
    sizes: list[int] = []

    def answer(asked: list[dict[str, Any]]) -> Any:
        sizes.append(len(asked))
        return {"responses": [item(one) for one in asked]}

    script(nango, answer)
    many = {str(number): f"/v1.0/users/{number}" for number in range(2 * LIMIT + 2)}
    assert batcher.get_all(many).keys() == many.keys()
    assert sizes == [LIMIT, LIMIT, 2]


def test_a_single_request_needs_no_envelope(nango: Nango, batcher: Batcher) -> None:
    script(nango, lambda _: b"")
    assert batcher.get_all({"a": TARGETS["a"]})["a"].ok
    assert batcher.get_all({}) == {}
    assert nango.log[-1].request.method == "GET"
    assert nango.calls.total == 1


def test_opening_asks_only_for_the_first_where_the_envelope_is_refused(
    nango: Nango, batcher: Batcher
) -> None:
    """What comes with it may only be read once the first has been judged."""
    script(nango, lambda _: {"error": {"code": "BadRequest"}}, status=400)
    assert batcher.open("b", TARGETS).keys() == {"b"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"responses": {}}',
        b'{"responses": [{"id": 1, "status": 200}]}',
        b'{"responses": [{"id": "0"}]}',
        b'{"responses": [',
        b'{"responses": [{"id": "\xff", "status": 200}]}',
        b'{"responses": ' + b"[" * 100_000,
    ],
)
def test_what_an_unreadable_envelope_held_is_asked_for_singly(
    nango: Nango, batcher: Batcher, body: bytes
) -> None:
    script(nango, lambda _: body)
    replies = batcher.get_all(TARGETS)
    assert replies["a"].document() == {"single": "/proxy/v1.0/users/a?$select=id"}
    assert replies.keys() == TARGETS.keys()
    assert batcher.open("b", TARGETS).keys() == {"b"}


def test_an_envelope_that_fails_raises_what_a_single_call_would(
    nango: Nango, batcher: Batcher
) -> None:
    script(nango, lambda _: {"error": {"code": "TooManyRequests"}}, status=429)
    with pytest.raises(Trouble):
        batcher.get_all(TARGETS)


def test_an_answer_without_a_body_is_an_empty_one(nango: Nango, batcher: Batcher) -> None:
    script(nango, lambda asked: {"responses": [{"id": one["id"], "status": 204} for one in asked]})
    assert {reply.body for reply in batcher.get_all(TARGETS).values()} == {b""}


@pytest.mark.parametrize(
    "odd", [b'{"a": "\\ud800"}', b'{"a": "\xff"}', b'{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}"]
)
def test_an_odd_body_of_one_item_costs_no_other(nango: Nango, batcher: Batcher, odd: bytes) -> None:
    """Else one object that cannot be read would keep a whole connection from syncing."""

    def answer(asked: list[dict[str, Any]]) -> bytes:
        first = b'{"id": "0", "status": 200, "body": ' + odd + b"}"
        rest = [msgspec.json.encode(item(one)) for one in asked[1:]]
        return b'{"responses": [' + b", ".join([first, *rest]) + b"]}"

    script(nango, answer)
    replies = batcher.get_all(TARGETS)
    assert replies.keys() == TARGETS.keys()
    assert replies["b"].ok
    assert replies["c"].ok
