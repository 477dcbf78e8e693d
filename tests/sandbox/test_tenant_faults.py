"""Faults at random from a seed and by script, over real connections."""

import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime

import httpx
import pytest

from sandbox.tenant import (
    ALL_KINDS,
    BROKEN,
    EXPIRIES,
    TRANSIENT,
    Client,
    FaultInjector,
    FaultRule,
    Nango,
    Request,
    Response,
    Server,
    Tenant,
)

NANGO_KINDS = frozenset({"html-200", "html-502", "empty-500", "cut", "nango-429", "nango-500"})


@pytest.fixture
def nango() -> Nango:
    nango = Nango()
    nango.add_connection("c1", Tenant(users=450, groups=6))
    nango.add_connection("c2", Tenant(seed=2, users=20, groups=2))
    return nango


def hit(nango: Nango, kind: str, matches: str = "", **options: float) -> None:
    nango.faults = FaultInjector.from_rules([(matches, kind, None)], **options)


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


# -- what each kind looks like --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "valid"),
    [
        ("429-integer", lambda text: text.isdigit() and int(text) <= 4),
        ("429-decimal", lambda text: "." in text and float(text) <= 4),
        ("429-date", lambda text: parsedate_to_datetime(text).tzinfo is not None),
        ("429-zero", lambda text: text == "0"),
        ("429-absent", lambda text: text == ""),
        ("429-lower-case", lambda text: float(text) <= 4),
    ],
)
def test_graph_throttles_in_every_form(
    client: Client, nango: Nango, kind: str, valid: Callable[[str], bool]
) -> None:
    hit(nango, kind, retry_after=4)
    answer = client.get("users")
    assert code_of(answer) == (429, "TooManyRequests")
    assert valid(answer.headers.get("retry-after", ""))
    assert {"request-id", "x-ratelimit-remaining"} <= set(answer.headers)


@pytest.mark.parametrize(
    ("kind", "expected", "headers"),
    [
        ("429-sharepoint", (429, "activityLimitReached"), {"request-id", "retry-after"}),
        ("500", (500, "InternalServerError"), {"request-id"}),
        ("502", (502, "BadGateway"), {"request-id"}),
        ("503", (503, "serviceNotAvailable"), {"request-id"}),
        ("503-retry-after", (503, "serviceNotAvailable"), {"request-id", "retry-after"}),
        ("504", (504, "UnknownError"), {"request-id"}),
        ("nango-429", (429, "too_many_request"), {"retry-after", "x-ratelimit-reset"}),
        ("nango-500", (500, "generic_error_support"), set()),
        ("refresh-failed", (400, "server_error"), set()),
        ("refresh-backoff", (424, "connection_refresh_backoff"), set()),
        ("refresh-exhausted", (424, "server_error"), set()),
        ("connection-unknown", (400, "server_error"), set()),
        ("dns", (400, "base_url_override_not_allowed"), set()),
        ("graph-401", (401, "InvalidAuthenticationToken"), {"request-id"}),
    ],
)
def test_errors_have_the_bodies_of_those_who_send_them(
    client: Client, nango: Nango, kind: str, expected: tuple[int, str], headers: set[str]
) -> None:
    hit(nango, kind)
    answer = client.get("users")
    assert code_of(answer) == expected
    assert headers <= set(answer.headers)
    assert ("request-id" in headers) is ("request-id" in answer.headers)
    assert ("retry-after" in headers) is ("retry-after" in answer.headers)


def test_a_504_has_an_empty_message(client: Client, nango: Nango) -> None:
    hit(nango, "504")
    assert client.get("users").json()["error"]["message"] == ""


def test_a_network_fault_behind_nango_has_no_error_object(client: Client, nango: Nango) -> None:
    hit(nango, "nango-reset")
    answer = client.get("users")
    assert answer.status_code == 500
    assert answer.json() == {"message": "read ECONNRESET", "code": "ECONNRESET", "method": "get"}


@pytest.mark.parametrize(
    ("kind", "status", "content_type"),
    [
        ("html-200", 200, "text/html"),
        ("html-502", 502, "text/html"),
        ("html-503", 503, "text/html"),
        ("empty-200", 200, None),
        ("empty-500", 500, None),
        ("html-403", 403, "text/html"),
        ("html-404", 404, "text/html"),
        ("empty-401", 401, None),
        ("empty-403", 403, None),
        ("foreign-403", 403, "application/json; charset=utf-8"),
        ("redirected", 302, None),
    ],
)
def test_gateways_answer_html_or_nothing(
    client: Client, nango: Nango, kind: str, status: int, content_type: str | None
) -> None:
    hit(nango, kind)
    answer = client.get("users")
    assert (answer.status_code, answer.headers.get("content-type")) == (status, content_type)
    assert bool(answer.content) is (content_type is not None)


def test_a_truncated_page_is_framed_well_but_no_json(client: Client, nango: Nango) -> None:
    whole = client.get("users").content
    hit(nango, "truncated")
    part = client.get("users")
    assert part.status_code == 200
    assert whole.startswith(part.content)
    assert len(part.content) < len(whole)
    with pytest.raises(ValueError, match=r"Expecting|Unterminated|double quotes"):
        part.json()


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("cut", httpx.RemoteProtocolError),
        ("reset", httpx.ReadError),
        ("reset-midway", httpx.ReadError),
    ],
)
def test_broken_connections_break_for_the_reader_and_the_next_call_works(
    client: Client, nango: Nango, kind: str, error: type[Exception]
) -> None:
    nango.faults = FaultInjector.from_rules([("users", kind)])
    with pytest.raises(error):
        client.get("users")
    assert client.get("users").status_code == 200


@pytest.mark.parametrize("chunked", [True, False])
def test_a_cut_sends_so_many_bytes_and_no_end(
    client: Client, nango: Nango, *, chunked: bool
) -> None:
    nango.before_graph = lambda _: Response(200, b"0123456789", chunked=chunked, cut_after=4)
    got: list[bytes] = []
    with client.http.stream("GET", "/proxy/v1.0/users") as answer:
        pieces = answer.iter_raw()
        with pytest.raises(httpx.RemoteProtocolError, match=r"peer closed"):
            got += pieces
    assert b"".join(got) == b"0123"


def test_an_upstream_that_is_cut_behind_a_buffering_nango_is_an_empty_500(
    client: Client, nango: Nango
) -> None:
    nango.buffers_responses = True
    hit(nango, "cut")
    answer = client.get("users")
    assert (answer.status_code, answer.content) == (500, b"")


def test_a_stall_outlasts_a_reader_who_waits_less(client: Client, nango: Nango) -> None:
    hit(nango, "stall", stall=30)
    with pytest.raises(httpx.ReadTimeout):
        client.http.get("/proxy/v1.0/users", timeout=0.1)


def test_a_trickle_keeps_every_wait_short_but_not_the_whole(client: Client, nango: Nango) -> None:
    hit(nango, "trickle", stall=0.4)
    began = time.monotonic()
    answer = client.http.get("/proxy/v1.0/users", timeout=0.35)
    assert len(answer.json()["value"]) == 100
    assert time.monotonic() - began >= 0.35


# -- cursors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "expected", "location"),
    [
        ("delta-gone", (410, "syncStateNotFound"), True),
        ("delta-gone-bare", (410, "syncStateNotFound"), False),
        ("delta-resync", (410, "resyncRequired"), True),
        ("delta-not-found", (400, "SyncStateNotFound"), False),
    ],
)
def test_delta_links_expire_but_a_first_call_never_does(
    client: Client, nango: Nango, kind: str, expected: tuple[int, str], *, location: bool
) -> None:
    hit(nango, kind)
    page = client.get("users/delta").json()
    assert page["value"]
    refused = client.get(page["@odata.nextLink"])
    assert code_of(refused) == expected
    assert ("location" in refused.headers) is location
    nango.faults = None
    link = client.walk("users/delta").delta_link
    hit(nango, kind)
    assert code_of(client.get(link or "")) == expected


def test_page_links_of_listings_expire(client: Client, nango: Nango) -> None:
    hit(nango, "page-expired")
    page = client.get("users").json()
    assert code_of(client.get(page["@odata.nextLink"])) == (400, "Directory_ExpiredPageToken")


# -- batches --------------------------------------------------------------------------------------


def test_items_of_a_batch_are_hit_one_by_one(client: Client, nango: Nango) -> None:
    nango.faults = FaultInjector.from_rules(
        [
            (lambda r: r.item == "2", "429-lower-case"),
            (lambda r: r.item == "3", "item-missing"),
            (lambda r: r.item == "4", "504"),
        ]
    )
    answers = {a["id"]: a for a in client.send_batch(*["users?$top=1"] * 5)}
    assert {name: a["status"] for name, a in answers.items()} == {
        "1": 200,
        "2": 429,
        "4": 504,
        "5": 200,
    }
    assert float(answers["2"]["headers"]["retry-after"]) <= 0.5
    assert answers["4"]["body"]["error"]["message"] == ""


def test_an_item_that_is_no_json_comes_in_base64(client: Client, nango: Nango) -> None:
    page = Response(502, b"<html>", {"content-type": "text/html"})
    nango.faults = FaultInjector.from_rules([(lambda r: r.item == "1", page)])
    (answer,) = client.send_batch("users")
    assert (answer["status"], answer["body"]) == (502, "PGh0bWw+")


def test_a_batch_is_hit_as_a_whole(client: Client, nango: Nango) -> None:
    hit(nango, "batch-424")
    answer = client.http.post(
        "/proxy/v1.0/$batch",
        json={"requests": [{"id": "1", "method": "GET", "url": "users?$top=1"}]},
    )
    assert answer.status_code == 424
    assert answer.json()["responses"][0]["status"] == 200


# -- scripts --------------------------------------------------------------------------------------


def test_a_script_hits_so_many_requests_and_then_no_more(client: Client, nango: Nango) -> None:
    nango.faults = FaultInjector.from_rules(
        [("users", "500", 2), FaultRule("groups", "503", skip=1)]
    )
    assert [client.get("users").status_code for _ in range(3)] == [500, 500, 200]
    assert [client.get("groups").status_code for _ in range(3)] == [200, 503, 200]
    assert nango.faults.hits == {"500": 2, "503": 1}
    assert [kind for kind, _ in nango.faults.recent] == ["500", "500", "503"]


def test_a_script_may_choose_by_connection_and_make_its_own_reply(
    server: Server, client: Client, nango: Nango
) -> None:
    def mine(request: Request) -> bool:
        return request.connection_id == "c2"

    nango.faults = FaultInjector.from_rules(
        [(mine, lambda r: Response(418, r.target.encode()), None)]
    )
    assert client.get("users").status_code == 200
    with Client(server, "c2") as other:
        assert other.get("users?$top=1").content == b"v1.0/users?$top=1"


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="No such faults: 599"):
        FaultInjector(kinds={"599"})
    with pytest.raises(ValueError, match="No such faults: 598"):
        FaultInjector.from_rules([("users", "598")])


# -- at random ------------------------------------------------------------------------------------


def told(server: Server, nango: Nango, seed: int, targets: list[str]) -> list[tuple[str, str]]:
    """What happens to each target, whatever the order."""
    nango.faults = FaultInjector(seed, 0.5, {"429-zero", "500", "nango-500", "empty-200"})
    with Client(server, "c1") as client:
        for target in targets:
            client.get(target)
    return sorted((r.target, kind) for kind, r in nango.faults.recent)


def test_the_same_seed_hits_the_same_requests_in_any_order(server: Server, nango: Nango) -> None:
    targets = [f"users?$top={n % 20 + 1}" for n in range(40)]
    first = told(server, nango, 3, targets)
    assert 8 < len(first) < 32
    assert told(server, nango, 3, targets[::-1]) == first
    assert told(server, nango, 4, targets) != first


def test_the_rates_of_calls_and_of_items_are_their_own(client: Client, nango: Nango) -> None:
    nango.faults = FaultInjector(rate=0.0, item_rate=1.0, kinds={"429-zero"})
    assert client.get("users").status_code == 200
    assert {a["status"] for a in client.send_batch("users", "groups")} == {429}


def test_connections_are_hit_only_if_asked_for(client: Client, nango: Nango) -> None:
    nango.faults = FaultInjector(rate=1.0, kinds=NANGO_KINDS - {"cut"})
    assert client.http.get("/connections").json()["connections"]
    nango.faults = FaultInjector(rate=1.0, kinds={"nango-429"}, connections=True)
    refused = client.http.get("/connections")
    assert refused.json()["error"] == {
        "code": "too_many_request",
        "method": "GET",
        "path": "/connections",
    }


def test_every_kind_happens_somewhere(client: Client, nango: Nango) -> None:
    page = client.get("users").json()["@odata.nextLink"]
    delta = client.walk("users/delta").delta_link or ""
    for kind in sorted(ALL_KINDS):
        hit(nango, kind, stall=0.01)
        faults = nango.faults
        assert faults is not None
        for act in (
            lambda: client.get(page),
            lambda: client.get(delta),
            lambda: client.send_batch("users"),
        ):
            try:
                act()
            except (httpx.HTTPError, ValueError):
                continue
        assert faults.hits[kind], kind


def test_faults_of_a_default_never_break_a_connection() -> None:
    assert set(FaultInjector().kinds) == TRANSIENT | EXPIRIES
    assert not BROKEN & set(FaultInjector().kinds)
