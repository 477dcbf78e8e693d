"""One proxied request: what is sent, what is tried again, and what is never said."""

import gzip
import threading
import time
import traceback
import tracemalloc
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from models.run import RunTrigger
from sandbox.tenant import Nango, Request, Response, Server
from worker.core.errors import (
    BudgetExhausted,
    ConfigurationError,
    ConnectionBroken,
    MalformedResponse,
    MirrorError,
    ResourceRefused,
    RetryLater,
)
from worker.graph.errors import classify_graph_response
from worker.graph.throttle import GraphThrottle
from worker.nango.client import ATTEMPTS, ConnectionRef, NangoClient, RetryPolicy
from worker.nango.response import ApiResponse
from worker.nango.transport import MAX_BODY, MAX_OBSERVED_BYTES

CONTOSO = ConnectionRef("contoso", "entra")
JSON = {"content-type": "application/json"}
PAGE = Response(200, b'{"value":[]}', JSON)
BOMB = gzip.compress(b" " * (1 << 20)) * 512
"""Half a gigabyte of blanks: whoever unpacks it is killed."""
QUICK = RetryPolicy(deadline=5.0, max_pause=0.5)
Make = Callable[..., NangoClient]


@pytest.fixture
def url(nango_server: Server) -> str:
    return nango_server.url


@pytest.fixture
def make(nango: Nango, url: str) -> Iterator[Make]:
    opened: list[NangoClient] = []

    def client(key: str = nango.key, host: str = url, patience: RetryPolicy = QUICK) -> NangoClient:
        opened.append(NangoClient(host, key, throttle=GraphThrottle(), retry_policy=patience))
        return opened[-1]

    nango.log.clear()
    yield client
    for one in opened:
        one.close()


@pytest.fixture
def client(make: Make) -> NangoClient:
    return make()


def script(nango: Nango, *responses: Response) -> None:
    """Answer with these, one after another; the last one goes on for ever."""
    waiting = list(responses)

    def answer(_request: Request) -> Response:
        return waiting.pop(0) if len(waiting) > 1 else waiting[0]

    nango.before_response = answer


def error(status: int, code: str, **headers: str) -> Response:
    body = msgspec.json.encode({"error": {"code": code}})
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status, body, JSON | named)


def users(client: NangoClient) -> int:
    return client.proxy(CONTOSO, "/v1.0/users").status


def everything_said(fault: BaseException) -> str:
    """What a traceback prints, without lines of source, and the causes as they show themselves."""
    told: list[str] = []
    at: BaseException | None = fault
    while at is not None:
        told += [*traceback.format_exception_only(at), str(at), repr(at), repr(at.args)]
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)
    return "\n".join(told)


# ---- what is sent


def test_the_headers_that_nango_needs_are_sent(client: NangoClient, nango: Nango) -> None:
    script(nango, PAGE)
    client.proxy(CONTOSO, "/v1.0/users?$top=1")
    request = nango.log[-1].request
    assert (request.method, request.target) == ("GET", "/proxy/v1.0/users?$top=1")
    headers = request.headers
    assert headers["authorization"] == f"Bearer {nango.key}"
    assert headers["connection-id"] == "contoso"
    assert headers["provider-config-key"] == "entra"
    assert headers["retries"] == "0"
    assert headers["nango-proxy-accept"] == "application/json"
    assert headers["nango-proxy-user-agent"].startswith("NONISV|")
    assert headers["nango-proxy-x-ms-throttle-priority"] == "low"
    assert str(uuid.UUID(headers["nango-proxy-client-request-id"]))
    assert "nango-proxy-authorization" not in headers


def test_every_call_has_an_id_of_its_own(client: NangoClient, nango: Nango) -> None:
    script(nango, PAGE)
    for _ in range(3):
        users(client)
    ids = {one.request.headers["nango-proxy-client-request-id"] for one in nango.log}
    assert len(ids) == 3


def test_a_body_is_sent_as_json(client: NangoClient, nango: Nango) -> None:
    script(nango, PAGE)
    client.proxy(CONTOSO, "/v1.0/$batch", method="POST", body={"requests": []})
    request = nango.log[-1].request
    assert (request.method, request.body) == ("POST", b'{"requests":[]}')
    assert request.headers["content-type"] == "application/json"


def test_nangos_own_api_is_asked_without_a_connection(client: NangoClient, nango: Nango) -> None:
    script(nango, PAGE)
    client.get("/connections?limit=7")
    request = nango.log[-1].request
    assert request.target == "/connections?limit=7"
    assert request.headers["authorization"] == f"Bearer {nango.key}"
    assert "connection-id" not in request.headers


def test_cookies_of_one_tenant_are_not_sent_with_the_next_call(
    client: NangoClient, nango: Nango
) -> None:
    script(nango, Response(200, b"{}", JSON | {"set-cookie": "tenant=one; Path=/"}))
    users(client)
    users(client)
    assert "cookie" not in nango.log[-1].request.headers


def test_the_reply_has_its_headers_in_lower_case(client: NangoClient, nango: Nango) -> None:
    script(nango, Response(404, b"x", {"Request-Id": "a", "Retry-AFTER": "3"}))
    response = client.proxy(CONTOSO, "/v1.0/users")
    assert (response.status, response.body) == (404, b"x")
    assert (response.headers["request-id"], response.headers["retry-after"]) == ("a", "3")


# ---- trying again


@pytest.mark.parametrize("status", [408, 409, 421, 425, 429, 449, 500, 502, 503, 504, 507, 509])
def test_a_short_pause_is_waited_in_place(client: NangoClient, nango: Nango, status: int) -> None:
    script(nango, error(status, "Busy", retry_after="0.1"), PAGE)
    started = time.monotonic()
    assert users(client) == 200
    assert time.monotonic() - started >= 0.1
    assert (client.calls, nango.calls.total) == (2, 2)


def test_a_long_pause_is_left_to_the_stream_at_once(client: NangoClient, nango: Nango) -> None:
    script(nango, error(429, "TooManyRequests", retry_after="315"))
    started = time.monotonic()
    with pytest.raises(RetryLater) as caught:
        users(client)
    assert time.monotonic() - started < 1.0
    assert caught.value.after == 315.0
    assert caught.value.connection == "entra/contoso"
    assert client.calls == 1


def test_a_pause_as_a_date_is_honoured(nango: Nango, url: str) -> None:
    nango.log.clear()
    now = 1_792_567_680.0  # Wed, 21 Oct 2026 07:28:00 GMT
    script(nango, error(503, "Busy", retry_after="Wed, 21 Oct 2026 07:30:00 GMT"))
    client = NangoClient(
        url, nango.key, throttle=GraphThrottle(), retry_policy=QUICK, clock=lambda: now
    )
    with pytest.raises(RetryLater) as caught:
        users(client)
    client.close()
    assert caught.value.after == 120.0


def test_attempts_are_bounded(client: NangoClient, nango: Nango) -> None:
    script(nango, error(503, "Busy", retry_after="0"))
    with pytest.raises(RetryLater) as caught:
        users(client)
    assert client.calls == nango.calls.total == ATTEMPTS
    assert caught.value.after is not None
    assert caught.value.after >= QUICK.max_pause


def test_time_is_bounded_too(make: Make, nango: Nango) -> None:
    client = make(patience=RetryPolicy(deadline=0.5, max_pause=0.4))
    script(nango, error(503, "Busy", retry_after="0.3"))
    started = time.monotonic()
    with pytest.raises(RetryLater):
        users(client)
    assert time.monotonic() - started < 1.5
    assert client.calls < ATTEMPTS


def test_a_silent_nango_is_given_up(make: Make, nango: Nango) -> None:
    client = make(patience=RetryPolicy(deadline=0.3, max_pause=0.1))
    script(nango, Response(200, b"{}", JSON, delay=1.0))
    started = time.monotonic()
    with pytest.raises(RetryLater):
        users(client)
    assert time.monotonic() - started < 1.5


def test_pauses_and_tries_share_one_deadline(make: Make, nango: Nango) -> None:
    """A lease is held for as long as one call may take."""
    client = make(patience=RetryPolicy(deadline=0.6, max_pause=0.5))
    script(nango, error(503, "Busy", retry_after="0.3"), Response(200, b"{}", JSON, delay=2.0))
    started = time.monotonic()
    with pytest.raises(RetryLater):
        users(client)
    assert time.monotonic() - started < 0.9
    assert client.calls == 2


def test_nangos_429_and_graphs_429_are_told_apart(make: Make, nango: Nango) -> None:
    script(nango, error(429, "too_many_request", retry_after="56"))
    with pytest.raises(RetryLater, match="Nango's own rate limit") as caught:
        users(make())
    assert caught.value.after == 56.0
    script(nango, error(429, "TooManyRequests", retry_after="57"))
    with pytest.raises(RetryLater, match="Graph answered 429") as caught:
        users(make())
    assert caught.value.after == 57.0


def test_a_501_is_not_tried_again(client: NangoClient, nango: Nango) -> None:
    script(nango, error(501, "NotImplemented", request_id="x"))
    response = client.proxy(CONTOSO, "/v1.0/users")
    assert isinstance(classify_graph_response(response, 0.0), ResourceRefused)
    assert client.calls == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 423, 501])
def test_graphs_refusals_come_back_unjudged(client: NangoClient, nango: Nango, status: int) -> None:
    script(nango, error(status, "Request_BadRequest", request_id="x"))
    assert users(client) == status
    assert client.calls == 1


def test_an_unknown_connection_is_broken_and_named(client: NangoClient) -> None:
    with pytest.raises(ConnectionBroken, match=r"^entra/nobody: ") as caught:
        client.proxy(ConnectionRef("nobody", "entra"), "/v1.0/users")
    assert caught.value.connection == "entra/nobody"


def test_400_and_404_of_nangos_api_come_back(client: NangoClient) -> None:
    assert client.get("/connections?nonsense=1").status == 400
    assert client.get("/connections/nobody?provider_config_key=none").status in (400, 404)


# ---- asking once


def users_once(client: NangoClient) -> ApiResponse:
    return client.proxy(CONTOSO, "/v1.0/users", single_attempt=True)


@pytest.mark.parametrize("status", [200, 404, 429, 500, 502, 503, 504, 509])
def test_what_is_asked_once_brings_whatever_graph_answers(
    client: NangoClient, nango: Nango, status: int
) -> None:
    script(nango, error(status, "Busy", request_id="x", retry_after="0"), PAGE)
    response = users_once(client)
    assert (response.status, response.headers["retry-after"]) == (status, "0")
    assert client.calls == nango.calls.total == 1


def test_a_pause_that_graph_names_is_heeded_also_by_who_asks_once(
    client: NangoClient, nango: Nango
) -> None:
    script(nango, error(429, "Busy", retry_after="30", x_ms_throttle_scope="Tenant"), PAGE)
    assert users_once(client).status == 429
    with pytest.raises(BudgetExhausted, match="slow down") as caught:
        users(client)
    assert caught.value.after is not None
    assert caught.value.after > 25.0
    assert client.calls == 1


def test_who_asks_once_waits_for_the_budget_as_ever(client: NangoClient, nango: Nango) -> None:
    script(nango, error(429, "Busy", retry_after="0.3", x_ms_throttle_scope="Tenant"), PAGE)
    started = time.monotonic()
    assert [users_once(client).status for _ in range(2)] == [429, 200]
    assert time.monotonic() - started >= 0.3
    assert client.calls == 2


@pytest.mark.parametrize(
    ("response", "kind", "after"),
    [
        (error(429, "too_many_request", retry_after="9"), BudgetExhausted, 9.0),
        (Response(500), RetryLater, 0.0),
        (Response(200, b"{", JSON | {"content-length": "9"}), RetryLater, 0.0),
        (error(401, "unknown_account"), ConfigurationError, None),
        (error(400, "unknown_connection"), ConnectionBroken, None),
    ],
)
def test_what_is_asked_once_fails_once(
    client: NangoClient,
    nango: Nango,
    response: Response,
    kind: type[MirrorError],
    after: float | None,
) -> None:
    script(nango, response, PAGE)
    with pytest.raises(kind) as caught:
        users_once(client)
    assert caught.value.after == after, "only a pause that was named is told"
    assert caught.value.connection == "entra/contoso"
    assert client.calls == nango.calls.total == 1


# ---- odd and torn answers


def test_a_truncated_body_is_tried_again(client: NangoClient, nango: Nango) -> None:
    cut = Response(200, b'{"value":[', JSON | {"content-length": "500"})
    script(nango, cut, PAGE)
    assert users(client) == 200
    assert client.calls == 2


def test_a_body_that_is_always_truncated_is_given_up(client: NangoClient, nango: Nango) -> None:
    script(nango, Response(200, b'{"value":[', JSON | {"content-length": "500"}))
    with pytest.raises(RetryLater):
        users(client)


def test_a_body_with_a_false_encoding_is_tried_again(client: NangoClient, nango: Nango) -> None:
    script(nango, Response(200, b"plain", JSON | {"content-encoding": "gzip"}), PAGE)
    assert users(client) == 200
    assert client.calls == 2


def test_an_empty_500_of_nangos_is_tried_again(client: NangoClient, nango: Nango) -> None:
    script(nango, Response(500), PAGE)
    assert users(client) == 200


@pytest.mark.parametrize("status", [400, 403, 500])
def test_a_body_that_is_not_text_is_judged_all_the_same(
    make: Make, nango: Nango, status: int
) -> None:
    script(nango, Response(status, b'{"error":{"code":"\xff"}}', JSON))
    client = make(patience=RetryPolicy(deadline=0.3, max_pause=0.1))
    with pytest.raises(MirrorError):
        users(client)


def test_a_body_that_swells_beyond_bounds_is_torn(client: NangoClient, nango: Nango) -> None:
    swollen = gzip.compress(b" " * (MAX_BODY + 1), compresslevel=1)
    script(nango, Response(200, swollen, JSON | {"content-encoding": "gzip"}))
    with pytest.raises(MalformedResponse, match=r"64 MB"):
        users(client)
    assert client.calls == 1


@pytest.mark.parametrize(
    ("encoding", "status"),
    [(one, 200) for one in ("gzip", "GZIP", "x-gzip", "deflate", "br", "zstd", "gzip, br")]
    + [("gzip", 401), ("gzip", 500)],
)
def test_a_packed_answer_is_refused_and_never_unpacked(
    client: NangoClient, nango: Nango, encoding: str, status: int
) -> None:
    script(nango, Response(status, BOMB, JSON | {"content-encoding": encoding}))
    tracemalloc.start()
    with pytest.raises(MalformedResponse, match="is compressed"):
        users(client)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < len(BOMB) + 20_000_000
    assert client.calls == 1


def test_answers_are_asked_for_as_they_are(client: NangoClient, nango: Nango) -> None:
    script(nango, Response(200, PAGE.body, JSON | {"content-encoding": "identity"}))
    assert users(client) == 200
    assert nango.log[-1].request.headers["accept-encoding"] == "identity"


def test_a_web_page_halts_with_the_name_of_the_setting(client: NangoClient, nango: Nango) -> None:
    script(nango, Response(200, b"<!doctype html>", {"content-type": "text/html"}))
    with pytest.raises(ConfigurationError, match="NANGO_HOST"):
        users(client)


@pytest.mark.parametrize("place", ["/elsewhere", "https://evil.example/v1.0/users"])
def test_redirects_are_not_followed(client: NangoClient, nango: Nango, place: str) -> None:
    script(nango, Response(302, b"", {"location": place}))
    with pytest.raises(ConfigurationError, match="NANGO_HOST"):
        users(client)
    script(nango, Response(302, b"", {"location": place, "request-id": "x"}))
    assert users(client) == 302
    assert client.calls == nango.calls.total == 2


def test_a_server_that_is_not_there_is_asked_later(make: Make) -> None:
    client = make(host="http://127.0.0.1:9", patience=RetryPolicy(deadline=0.3, max_pause=0.1))
    with pytest.raises(RetryLater, match="NANGO_HOST") as caught:
        users(client)
    assert caught.value.after
    assert client.calls >= 1


# ---- watched while it arrives


class Watcher:
    """Notes what it is shown, and has enough once ``enough`` is in it."""

    def __init__(self, enough: bytes) -> None:
        self.enough = enough
        self.heads: list[bytes] = []
        self.sends = 0
        self.held_back = 0.0
        self.client: NangoClient | None = None

    def mark_sent(self) -> None:
        self.sends += 1

    def observe(self, head: bytes) -> bool:
        assert self.sends, "the request has gone out before its answer comes"
        self.heads.append(head)
        if self.client is not None:
            self.held_back, _ = self.client.limiter.try_acquire(
                str(CONTOSO), "directory", RunTrigger.MANUAL
            )
        return self.enough in head


def long_page(size: int = 8_000, **how: Any) -> Response:
    return Response(200, b"".join(b"%07d " % number for number in range(size // 8)), JSON, **how)


def test_an_answer_is_seen_while_it_is_arriving(client: NangoClient, nango: Nango) -> None:
    script(nango, long_page(trickle_delay=0.02))
    watcher = Watcher(b"0000200 ")
    response = client.proxy(CONTOSO, "/v1.0/users", observer=watcher)
    assert response.body == long_page().body
    assert [len(head) for head in watcher.heads] == [1000, 2000], "as much as was wanted"
    assert watcher.sends == 1


def test_only_the_beginning_of_an_answer_is_watched(client: NangoClient, nango: Nango) -> None:
    script(nango, long_page(size=8 * MAX_OBSERVED_BYTES))
    watcher = Watcher(b"never")
    assert (
        len(client.proxy(CONTOSO, "/v1.0/users", observer=watcher).body) == 8 * MAX_OBSERVED_BYTES
    )
    assert 0 < len(watcher.heads[-1]) <= 2 * MAX_OBSERVED_BYTES


@pytest.mark.parametrize("status", [404, 429, 503])
def test_a_refusal_is_not_watched(client: NangoClient, nango: Nango, status: int) -> None:
    script(nango, error(status, "TooManyRequests", request_id="x"), long_page())
    watcher = Watcher(b"0")
    client.proxy(CONTOSO, "/v1.0/users", observer=watcher, single_attempt=status == 503)
    assert not any(b"TooMany" in head for head in watcher.heads)


def test_an_answer_that_breaks_off_is_watched_anew(client: NangoClient, nango: Nango) -> None:
    script(nango, long_page(cut_after=4_000), long_page())
    watcher = Watcher(b"0000001 ")
    assert client.proxy(CONTOSO, "/v1.0/users", observer=watcher).body == long_page().body
    assert watcher.sends == len(watcher.heads) == 2
    assert client.calls == 2


def test_what_an_answers_headers_ask_for_holds_before_its_body_is_seen(
    client: NangoClient, nango: Nango
) -> None:
    headers = JSON | {"request-id": "x", "x-ms-throttle-limit-percentage": "1.0"}
    script(nango, Response(200, b'{"value":[]}', headers))
    watcher = Watcher(b"value")
    watcher.client = client
    client.proxy(CONTOSO, "/v1.0/users", observer=watcher)
    assert watcher.held_back > 5


# ---- configuration


@pytest.mark.parametrize("host", ["http://127.0.0.1:port", "http://127.0.0.1:99999"])
def test_an_address_that_is_none_halts(make: Make, host: str) -> None:
    with pytest.raises(ConfigurationError, match="NANGO_HOST"):
        users(make(host=host))


def test_a_key_beyond_ascii_halts_without_being_quoted(make: Make) -> None:
    with pytest.raises(ConfigurationError, match="NANGO_SECRET_KEY") as caught:
        make(key="sch\u00fcssel")
    assert "sch" not in everything_said(caught.value)


@pytest.mark.parametrize("end", ["\r", "\n", "\0", " ", "\x7f"])
def test_a_key_that_no_header_can_carry_halts_at_once(make: Make, nango: Nango, end: str) -> None:
    def attempt() -> None:
        users(make(key=nango.key + end, patience=RetryPolicy(deadline=0.3, max_pause=0.1)))

    with pytest.raises(ConfigurationError, match="NANGO_SECRET_KEY"):
        attempt()


@pytest.mark.parametrize("end", ["\r", "\n", "\0"])
def test_a_key_that_no_header_can_carry_is_not_quoted(make: Make, nango: Nango, end: str) -> None:
    def attempt() -> None:
        users(make(key=nango.key + end, patience=RetryPolicy(deadline=0.3, max_pause=0.1)))

    with pytest.raises(MirrorError) as caught:
        attempt()
    assert nango.key not in everything_said(caught.value)


@pytest.mark.parametrize("name", ["contos\u00f6", "a\r\nX-Evil: 1", "\u2603", "", "a "])
def test_a_connection_id_that_no_header_can_carry_is_broken(make: Make, name: str) -> None:
    """Ids are chosen by whoever makes the connection; one must not end the task."""
    client = make(patience=RetryPolicy(deadline=0.3, max_pause=0.1))
    with pytest.raises(ConnectionBroken):
        client.proxy(ConnectionRef(name, "entra"), "/v1.0/users")
    assert client.calls == 0


# ---- secrets

FAULTS: dict[str, Response] = {
    "unauthorised": error(401, "unknown_account"),
    "forbidden": error(403, "forbidden"),
    "throttled": error(429, "too_many_request", retry_after="99"),
    "graph throttled": error(429, "TooManyRequests", retry_after="99"),
    "web page": Response(200, b"<html>", {"content-type": "text/html"}),
    "redirect": Response(302, b"", {"location": "/x"}),
    "torn": Response(200, b"{", JSON | {"content-length": "9"}),
    "false encoding": Response(200, b"plain", JSON | {"content-encoding": "gzip"}),
    "empty": Response(500),
    "silent": Response(200, b"{}", JSON, delay=0.6),
    "broken": error(424, "connection_refresh_backoff"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_key_and_the_token_are_in_no_failure(make: Make, nango: Nango, fault: str) -> None:
    client = make(patience=RetryPolicy(deadline=0.3, max_pause=0.1))
    script(nango, FAULTS[fault])
    with pytest.raises(MirrorError) as caught:
        client.proxy(CONTOSO, "/v1.0/users/delta?$deltatoken=t0p5ecret")
    said = everything_said(caught.value)
    assert nango.key not in said
    assert "t0p5ecret" not in said


def test_the_key_is_not_in_the_text_of_a_client(client: NangoClient, nango: Nango) -> None:
    assert nango.key not in repr(client)
    assert nango.key not in repr(vars(client))


# ---- counting


def test_calls_of_several_threads_are_all_counted(client: NangoClient, nango: Nango) -> None:
    script(nango, PAGE)
    threads = [
        threading.Thread(target=lambda: [users(client) for _ in range(10)]) for _ in range(4)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert client.calls == nango.calls.total == 40


def test_calls_that_fail_are_counted(client: NangoClient, nango: Nango) -> None:
    script(nango, error(401, "unknown_account"))
    with pytest.raises(ConfigurationError):
        client.get("/connections")
    assert client.calls == 1


def test_a_closed_client_opens_nothing(nango: Nango, url: str) -> None:
    client = NangoClient(url, nango.key, throttle=GraphThrottle())
    client.close()
    with pytest.raises(RuntimeError):
        users(client)
