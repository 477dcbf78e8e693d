"""The call behind a page: when it leaves, and how often."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from sandbox.tenant import Nango, Response, Server
from worker.graph.batch import Batcher
from worker.nango.client import Address, NangoClient, Patience
from worker.nango.reply import Reply
from worker.sync.onward import Onward

HOST = "https://graph.microsoft.com"
LINK = f"{HOST}/v1.0/users?$skiptoken=2"
HEAD = b'{"@odata.nextLink":"%b","value":[' % LINK.encode()
PAGE = Reply(200, HEAD + b"]}")
ENDED = Response(200, b'{"value":[]}', {"request-id": "simulated"})


class Calls:
    """A page's calls, on a pool; none where the time is over."""

    def __init__(self, batcher: Batcher, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self.late = False
        self.sent = 0
        self.onward = Onward(batcher, self._follow)

    def _follow(self, call: Callable[[], Reply]) -> "Future[Reply] | None":
        if self.late:
            return None
        self.sent += 1
        return self._pool.submit(call)


@pytest.fixture
def calls(nango: Nango, _shared_server: Server) -> Iterator[Calls]:
    nango.before_response = lambda _: ENDED
    client = NangoClient(_shared_server.url, nango.key, patience=Patience(5.0, 0.1))
    with ThreadPoolExecutor(2) as pool:
        yield Calls(Batcher(client, Address("contoso", "entra")), pool)
    client.close()


def test_a_page_that_is_awaited_is_followed_from_its_beginning(calls: Calls, nango: Nango) -> None:
    calls.onward.await_page()
    assert not calls.onward.look(HEAD[:30]), "the link has not come yet"
    assert calls.sent == 0
    assert calls.onward.look(HEAD)
    assert calls.sent == 1
    coming = calls.onward.behind(PAGE)
    assert coming is not None
    assert coming.link == LINK
    assert coming.reply.result(10).body == ENDED.body
    assert [one.request.target for one in nango.log] == ["/proxy/v1.0/users?$skiptoken=2"]


def test_a_page_that_nobody_waits_for_yet_is_not_followed(calls: Calls) -> None:
    assert calls.onward.look(HEAD)
    assert calls.sent == 0
    calls.onward.await_page()
    assert calls.sent == 1
    assert calls.onward.behind(PAGE) is not None
    assert calls.sent == 1


def test_a_page_that_came_whole_before_it_was_awaited_is_followed_then(calls: Calls) -> None:
    calls.onward.await_page()
    assert calls.onward.behind(PAGE) is not None
    assert calls.sent == 1


def test_another_try_of_a_page_sends_nothing_more(calls: Calls) -> None:
    calls.onward.await_page()
    for number in range(5):
        assert calls.onward.look(HEAD.replace(b"=2", b"=%d" % number))
    assert calls.sent == 1


def test_the_link_of_the_page_that_came_whole_counts(calls: Calls) -> None:
    calls.onward.await_page()
    calls.onward.look(HEAD.replace(b"=2", b"=stale"))
    coming = calls.onward.behind(PAGE)
    assert coming is not None
    assert coming.link == LINK
    assert calls.sent == 2


@pytest.mark.parametrize("whole", [Reply(200, b'{"value":[]}'), Reply(503, PAGE.body)])
def test_a_page_that_has_none_behind_it_after_all_leads_nowhere(calls: Calls, whole: Reply) -> None:
    calls.onward.await_page()
    calls.onward.look(HEAD)
    assert calls.onward.behind(whole) is None


def test_nothing_is_sent_once_the_time_is_over(calls: Calls) -> None:
    calls.late = True
    calls.onward.await_page()
    assert calls.onward.look(HEAD)
    assert calls.onward.behind(PAGE) is None
    assert calls.onward.ask(LINK) is None
    assert calls.sent == 0


def test_a_link_to_another_host_is_never_asked_for(calls: Calls, nango: Nango) -> None:
    calls.onward.await_page()
    calls.onward.look(HEAD.replace(HOST.encode(), b"https://evil.example"))
    coming = calls.onward.behind(
        Reply(200, PAGE.body.replace(HOST.encode(), b"https://evil.example"))
    )
    assert coming is not None
    assert coming.reply.exception(10) is not None
    assert not nango.log
