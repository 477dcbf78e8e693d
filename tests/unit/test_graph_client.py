"""Requests with proof of the tenant that answers them: many in one call, whatever comes of each."""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from sandbox.tenant import Nango, Request, Response, Server
from worker.core.errors import ConnectionBroken, MalformedResponse, MirrorError, RetryLater
from worker.graph.batch_body import parse_batch
from worker.graph.client import MAX_BATCH_ITEMS, GraphClient
from worker.graph.throttle import GraphThrottle
from worker.nango.client import ConnectionRef, NangoClient, RetryPolicy
from worker.nango.response import ApiResponse

JSON = {"content-type": "application/json"}
TARGETS = {name: f"/v1.0/users/{name}?$select=id" for name in ("a", "b", "c")}
NEXT = "/v1.0/users?$skiptoken=2"
HOME, ELSEWHERE = (f"00000000-0000-4000-8000-00000000000{digit}" for digit in "12")
ORGANIZATION = "/organization"
REJECTED = {"error": {"code": "InvalidAuthenticationToken"}}
Answer = Callable[[list[dict[str, Any]]], Any]


@pytest.fixture
def client(nango: Nango, nango_server: Server) -> Iterator[GraphClient]:
    nango.log.clear()
    client = NangoClient(
        nango_server.url, nango.key, throttle=GraphThrottle(), retry_policy=RetryPolicy(2.0, 0.1)
    )
    yield GraphClient(client, ConnectionRef("contoso", "entra"), tenant_id=HOME)
    client.close()


@pytest.fixture
def patient(nango: Nango, nango_server: Server) -> Iterator[GraphClient]:
    """Sends again what was throttled."""
    client = NangoClient(
        nango_server.url, nango.key, throttle=GraphThrottle(), retry_policy=RetryPolicy(5.0, 1.0)
    )
    yield GraphClient(client, ConnectionRef("contoso", "entra"), tenant_id=HOME)
    client.close()


def organization(tenant: str = HOME) -> dict[str, Any]:
    return {"value": [{"id": tenant, "displayName": "Contoso"}]}


def item(request: dict[str, Any], status: int = 200, **extra: Any) -> dict[str, Any]:
    return {"id": request["id"], "status": status, "body": {"url": request["url"]}} | extra


class Script:
    """Answers a ``$batch`` by its requests without the organization, single calls by their path."""

    def __init__(self, nango: Nango, answer: Answer, status: int = 200) -> None:
        self._answer, self._status = answer, status
        self.tenants: list[str] = []
        """Whose organization answers next; the last one stays."""
        self.statuses: list[int] = []
        """With what the organization answers next; 200 where there is none."""
        self.first = False
        """Whether the organization comes first; it may be anywhere."""
        self.asked: list[str] = []
        nango.before_response = self._handle

    def _organization(self, request: dict[str, Any]) -> dict[str, Any]:
        tenant = self.tenants[0] if self.tenants else HOME
        del self.tenants[: len(self.tenants) > 1]
        status = self.statuses.pop(0) if self.statuses else 200
        refusal = REJECTED if status == 401 else {"error": {"code": "TooManyRequests"}}
        body = organization(tenant) if status == 200 else refusal
        return {"id": request["id"], "status": status, "body": body}

    def _handle(self, request: Request) -> Response:
        self.asked.append(request.path.removeprefix("/proxy/v1.0"))
        if request.path.endswith(ORGANIZATION):
            told = self._organization({"id": ""})
            return Response(told["status"], msgspec.json.encode(told["body"]), JSON)
        if not request.path.endswith("/$batch"):
            return Response(200, msgspec.json.encode({"single": request.target}), JSON)
        asked = msgspec.json.decode(request.body)["requests"]
        known = [one for one in asked if one["url"].startswith(ORGANIZATION)]
        assert len(known) == 1, "every envelope asks for the organization once"
        content = self._answer([one for one in asked if one not in known])
        if not isinstance(content, bytes):
            if "responses" in content:
                place = 0 if self.first else len(content["responses"])
                content["responses"].insert(place, self._organization(known[0]))
            content = msgspec.json.encode(content)
        return Response(self._status, content, JSON | {"request-id": "x"})


def script(nango: Nango, answer: Answer, *, status: int = 200) -> Script:
    return Script(nango, answer, status)


def all_well(asked: list[dict[str, Any]]) -> Any:
    return {"responses": [item(one) for one in asked]}


def test_urls_are_relative_to_the_version_and_unchanged(nango: Nango, client: GraphClient) -> None:
    script(nango, lambda asked: {"responses": [item(one) for one in asked]})
    odd = {"x": "/v1.0/users?$skiptoken=%27+$%2B", "y": "/v1.0/groups"}
    replies = client.get_all(odd)
    assert replies["x"].parse_json() == {"url": "/users?$skiptoken=%27+$%2B"}
    assert replies["y"].parse_json() == {"url": "/groups"}


def test_answers_are_matched_by_id_in_any_order(nango: Nango, client: GraphClient) -> None:
    script(nango, lambda asked: {"responses": [item(one) for one in reversed(asked)]})
    replies = client.get_all(TARGETS)
    for name in TARGETS:
        assert replies[name].parse_json() == {"url": f"/users/{name}?$select=id"}
    assert nango.calls.total == 1


def test_each_answer_is_judged_by_itself(nango: Nango, client: GraphClient) -> None:
    def answer(asked: list[dict[str, Any]]) -> Any:
        throttled = item(asked[0], 429, headers={"Retry-After": "0.249"})
        return {"responses": [throttled, item(asked[1], 404), item(asked[2], headers=None)]}

    script(nango, answer)
    replies = client.get_all(TARGETS)
    assert [response.status for response in replies.values()] == [429, 404, 200]
    assert replies["a"].get_retry_after(0.0) == 0.249


def test_an_answer_that_is_missing_is_asked_for_alone(nango: Nango, client: GraphClient) -> None:
    made = script(
        nango, lambda asked: {"responses": [item(asked[0]), item({"id": "99", "url": "/x"})]}
    )
    replies = client.get_all(TARGETS)
    assert replies.keys() == TARGETS.keys()
    assert replies["c"].parse_json() == {"single": "/proxy/v1.0/users/c?$select=id"}
    assert made.asked == ["/$batch", ORGANIZATION, "/users/b", "/users/c", ORGANIZATION]


@pytest.mark.parametrize("status", [400, 403, 404, 405, 501])
def test_a_refused_envelope_is_not_tried_again(
    nango: Nango, client: GraphClient, status: int
) -> None:
    made = script(nango, lambda _: {"error": {"code": "BadRequest"}}, status=status)
    assert client.get_all(TARGETS).keys() == TARGETS.keys()
    singly = [ORGANIZATION, "/users/a", "/users/b", "/users/c", ORGANIZATION]
    assert made.asked == ["/$batch", *singly]
    made.asked.clear()
    client.get_all(TARGETS)
    assert made.asked == singly


def test_an_envelope_of_424_is_read_all_the_same(nango: Nango, client: GraphClient) -> None:
    script(nango, lambda asked: {"responses": [item(one, 429) for one in asked]}, status=424)
    assert {response.status for response in client.get_all(TARGETS).values()} == {429}


def test_no_envelope_holds_more_than_graph_takes(nango: Nango, client: GraphClient) -> None:
    sizes: list[int] = []

    def answer(asked: list[dict[str, Any]]) -> Any:
        sizes.append(len(asked) + 1)
        return all_well(asked)

    script(nango, answer)
    many = {str(number): f"/v1.0/users/{number}" for number in range(2 * MAX_BATCH_ITEMS + 2)}
    assert client.get_all(many).keys() == many.keys()
    assert sizes == [20, 20, 3]


def test_opening_leaves_out_what_does_not_fit_behind_the_organization(
    nango: Nango, client: GraphClient
) -> None:
    made = script(nango, all_well)
    many = {str(number): f"/v1.0/users/{number}" for number in reversed(range(25))}
    found, replies = client.open(many)
    assert found.tenant_id == HOME
    assert list(replies) == list(many)[:19]
    assert made.asked == ["/$batch"]


def test_a_single_request_travels_with_the_organization(nango: Nango, client: GraphClient) -> None:
    made = script(nango, all_well)
    assert client.get_all({"a": TARGETS["a"]})["a"].is_success
    assert client.get(TARGETS["b"]).parse_json() == {"url": "/users/b?$select=id"}
    assert client.get_all({}) == {}
    assert made.asked == ["/$batch", "/$batch"]


def test_a_link_that_is_bound_to_its_tenant_goes_alone(nango: Nango, client: GraphClient) -> None:
    made = script(nango, all_well)
    assert client.get(NEXT).parse_json() == {"single": f"/proxy{NEXT}"}
    assert made.asked == ["/users"]


def test_opening_tells_only_the_organization_where_the_envelope_is_refused(
    nango: Nango, client: GraphClient
) -> None:
    """What comes with it may only be read once the organization has been judged."""
    script(nango, lambda _: {"error": {"code": "BadRequest"}}, status=400)
    found, replies = client.open(TARGETS)
    assert (found.tenant_id, found.display_name, replies) == (HOME, "Contoso", {})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"responses": {}}',
        b'{"responses": [{"id": 1, "status": 200}]}',
        b'{"responses": [{"id": "0"}]}',
        b'{"responses": [{"id": "0", "status": 200, "body": {}}]}',
        b'{"responses": [',
        b'{"responses": [{"id": "\xff", "status": 200}]}',
        b'{"responses": ' + b"[" * 100_000,
    ],
)
def test_what_an_envelope_held_that_proves_no_tenant_is_asked_for_singly(
    nango: Nango, client: GraphClient, body: bytes
) -> None:
    script(nango, lambda _: body)
    replies = client.get_all(TARGETS)
    assert replies["a"].parse_json() == {"single": "/proxy/v1.0/users/a?$select=id"}
    assert replies.keys() == TARGETS.keys()
    assert client.open(TARGETS)[1] == {}


def test_an_envelope_that_fails_raises_what_a_single_call_would(
    nango: Nango, client: GraphClient
) -> None:
    script(nango, lambda _: {"error": {"code": "TooManyRequests"}}, status=429)
    with pytest.raises(MirrorError):
        client.get_all(TARGETS)


def test_an_answer_without_a_body_is_an_empty_one(nango: Nango, client: GraphClient) -> None:
    script(nango, lambda asked: {"responses": [{"id": one["id"], "status": 204} for one in asked]})
    assert {response.body for response in client.get_all(TARGETS).values()} == {b""}


@pytest.mark.parametrize(
    "odd", [b'{"a": "\\ud800"}', b'{"a": "\xff"}', b'{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}"]
)
def test_an_odd_body_of_one_item_costs_no_other(
    nango: Nango, client: GraphClient, odd: bytes
) -> None:
    """Else one object that cannot be read would keep a whole connection from syncing."""

    def answer(asked: list[dict[str, Any]]) -> bytes:
        first = b'{"id": "0", "status": 200, "body": ' + odd + b"}"
        told = {"id": "tenant", "status": 200, "body": organization()}
        rest = [msgspec.json.encode(one) for one in (*map(item, asked[1:]), told)]
        return b'{"responses": [' + b", ".join([first, *rest]) + b"]}"

    script(nango, answer)
    replies = client.get_all(TARGETS)
    assert replies.keys() == TARGETS.keys()
    assert replies["b"].is_success
    assert replies["c"].is_success


# ---- whose answers they are


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("ask", [lambda b: b.get_all(TARGETS), lambda b: b.get(TARGETS["a"])])
def test_what_comes_with_another_organization_is_dropped(
    nango: Nango, client: GraphClient, ask: Callable[[GraphClient], object], first: bool
) -> None:
    made = script(nango, all_well)
    made.tenants, made.first = [ELSEWHERE], first
    with pytest.raises(ConnectionBroken, match="another Microsoft tenant"):
        ask(client)


def test_the_first_organization_is_the_tenant_from_then_on(
    nango: Nango, nango_server: Server
) -> None:
    nango_client = NangoClient(nango_server.url, nango.key, throttle=GraphThrottle())
    client = GraphClient(nango_client, ConnectionRef("contoso", "entra"))
    script(nango, all_well).tenants = [HOME.upper(), ELSEWHERE]
    assert client.open(TARGETS)[0].tenant_id == HOME
    with pytest.raises(ConnectionBroken, match="another Microsoft tenant"):
        client.get_all(TARGETS)
    nango_client.close()


def test_throttled_items_are_judged_again_when_they_are_sent_again(
    nango: Nango, patient: GraphClient
) -> None:
    def answer(asked: list[dict[str, Any]]) -> Any:
        throttled = item(asked[-1], 429, headers={"Retry-After": "0"})
        return {
            "responses": [*map(item, asked[:-1]), throttled if len(asked) > 1 else item(asked[-1])]
        }

    script(nango, answer).tenants = [HOME, ELSEWHERE]
    with pytest.raises(ConnectionBroken, match="another Microsoft tenant"):
        patient.get_all(TARGETS)


def test_nothing_is_used_while_the_organization_is_throttled(
    nango: Nango, patient: GraphClient
) -> None:
    made = script(nango, all_well)
    made.statuses = [429]
    assert {response.status for response in patient.get_all(TARGETS).values()} == {200}
    assert made.asked == ["/$batch", "/$batch"], "all of it was sent again"
    made.statuses = [503] * 9
    with pytest.raises(RetryLater):
        patient.get_all(TARGETS)


@pytest.mark.parametrize("tenants", [[ELSEWHERE], [HOME, ELSEWHERE]])
def test_without_envelopes_the_organization_is_asked_before_and_after(
    nango: Nango, client: GraphClient, tenants: list[str]
) -> None:
    script(nango, lambda _: {"error": {"code": "BadRequest"}}, status=400).tenants = tenants
    with pytest.raises(ConnectionBroken, match="another Microsoft tenant"):
        client.get(TARGETS["a"])


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_a_bound_link_that_is_refused_may_be_so_to_another_tenant(
    nango: Nango, client: GraphClient, status: int
) -> None:
    def refuse(request: Request) -> Response | None:
        if request.path.endswith(ORGANIZATION):
            return Response(200, msgspec.json.encode(organization(ELSEWHERE)), JSON)
        return Response(status, b'{"error": {"code": "Request_BadRequest"}}', JSON)

    nango.before_response = refuse
    with pytest.raises(ConnectionBroken, match="another Microsoft tenant"):
        client.get(NEXT)


@pytest.mark.parametrize("body", [{}, {"value": []}, {"value": [{"id": "x"}]}])
def test_an_organization_that_cannot_be_read_proves_nothing(
    nango: Nango, client: GraphClient, body: object
) -> None:
    def answer(asked: list[dict[str, Any]]) -> bytes:
        told = {"id": "tenant", "status": 200, "body": body}
        return msgspec.json.encode({"responses": [told, *map(item, asked)]})

    script(nango, answer)
    with pytest.raises(MalformedResponse):
        client.get_all(TARGETS)


def test_an_item_was_answered_when_the_whole_was() -> None:
    """A date to wait for counts from there, whatever our own clock says."""
    items = [
        {"id": "tenant", "status": 200, "body": organization()},
        {"id": "0", "status": 429, "headers": {"Retry-After": "Wed, 21 Oct 2026 07:28:30 GMT"}},
        {"id": "1", "status": 200, "headers": {"Date": "Wed, 21 Oct 2026 07:00:00 GMT"}},
    ]
    headers = {"date": "Wed, 21 Oct 2026 07:28:00 GMT"}
    came = parse_batch(
        TARGETS, ApiResponse(200, msgspec.json.encode({"responses": items}), headers)
    )
    assert came is not None
    assert came.responses["a"].get_retry_after(0.0) == 30.0
    assert came.responses["b"].headers["date"] == "Wed, 21 Oct 2026 07:00:00 GMT"
