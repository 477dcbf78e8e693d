"""The call behind a page: when it leaves, and how often."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from sandbox.tenant import Nango, Response, Server
from worker.graph.client import GraphClient
from worker.graph.throttle import GraphThrottle
from worker.nango.client import ConnectionRef, NangoClient, RetryPolicy
from worker.nango.response import ApiResponse
from worker.sync.sources.prefetch import Prefetch

HOST = "https://graph.microsoft.com"
LINK = f"{HOST}/v1.0/users?$skiptoken=2"
HEAD = b'{"@odata.nextLink":"%b","value":[' % LINK.encode()
PAGE = ApiResponse(200, HEAD + b"]}")
ENDED = Response(200, b'{"value":[]}', {"request-id": "simulated"})


class Calls:
    """A page's calls, on a pool; none where the time is over."""

    def __init__(self, client: GraphClient, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self.late = False
        self.sent = 0
        self.onward = Prefetch(client, self._follow)

    def _follow(self, call: Callable[[], ApiResponse]) -> "Future[ApiResponse] | None":
        if self.late:
            return None
        self.sent += 1
        return self._pool.submit(call)


@pytest.fixture
def calls(nango: Nango, nango_server: Server) -> Iterator[Calls]:
    nango.before_response = lambda _: ENDED
    client = NangoClient(
        nango_server.url, nango.key, throttle=GraphThrottle(), retry_policy=RetryPolicy(5.0, 0.1)
    )
    with ThreadPoolExecutor(2) as pool:
        yield Calls(GraphClient(client, ConnectionRef("contoso", "entra")), pool)
    client.close()


def test_a_page_that_is_awaited_is_followed_from_its_beginning(calls: Calls, nango: Nango) -> None:
    calls.onward.mark_awaited()
    assert not calls.onward.observe(HEAD[:30]), "the link has not come yet"
    assert calls.sent == 0
    assert calls.onward.observe(HEAD)
    assert calls.sent == 1
    coming = calls.onward.finish(PAGE)
    assert coming is not None
    assert coming.link == LINK
    assert coming.future.result(10).body == ENDED.body
    assert [one.request.target for one in nango.log] == ["/proxy/v1.0/users?$skiptoken=2"]


def test_a_page_that_nobody_waits_for_yet_is_not_followed(calls: Calls) -> None:
    assert calls.onward.observe(HEAD)
    assert calls.sent == 0
    calls.onward.mark_awaited()
    assert calls.sent == 1
    assert calls.onward.finish(PAGE) is not None
    assert calls.sent == 1


def test_a_page_that_came_whole_before_it_was_awaited_is_followed_then(calls: Calls) -> None:
    calls.onward.mark_awaited()
    assert calls.onward.finish(PAGE) is not None
    assert calls.sent == 1


def test_another_try_of_a_page_sends_nothing_more(calls: Calls) -> None:
    calls.onward.mark_awaited()
    for number in range(5):
        assert calls.onward.observe(HEAD.replace(b"=2", b"=%d" % number))
    assert calls.sent == 1


def test_the_link_of_the_page_that_came_whole_counts(calls: Calls) -> None:
    calls.onward.mark_awaited()
    calls.onward.observe(HEAD.replace(b"=2", b"=stale"))
    coming = calls.onward.finish(PAGE)
    assert coming is not None
    assert coming.link == LINK
    assert calls.sent == 2


@pytest.mark.parametrize("whole", [ApiResponse(200, b'{"value":[]}'), ApiResponse(503, PAGE.body)])
def test_a_page_that_has_none_behind_it_after_all_leads_nowhere(
    calls: Calls, whole: ApiResponse
) -> None:
    calls.onward.mark_awaited()
    calls.onward.observe(HEAD)
    assert calls.onward.finish(whole) is None


def test_nothing_is_sent_once_the_time_is_over(calls: Calls) -> None:
    calls.late = True
    calls.onward.mark_awaited()
    assert calls.onward.observe(HEAD)
    assert calls.onward.finish(PAGE) is None
    assert calls.onward.send(LINK) is None
    assert calls.sent == 0


def test_a_link_to_another_host_is_never_asked_for(calls: Calls, nango: Nango) -> None:
    calls.onward.mark_awaited()
    calls.onward.observe(HEAD.replace(HOST.encode(), b"https://evil.example"))
    coming = calls.onward.finish(
        ApiResponse(200, PAGE.body.replace(HOST.encode(), b"https://evil.example"))
    )
    assert coming is not None
    assert coming.future.exception(10) is not None
    assert not nango.log
