"""Prefetch the next page: send its call as soon as its link arrives, before the page has."""

from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from threading import Event, Lock
from typing import Final

from worker.graph.client import GraphClient
from worker.graph.links import path_from_link, peek_next_link
from worker.nango.response import ApiResponse

Submit = Callable[[Callable[[], ApiResponse]], "Future[ApiResponse] | None"]
"""Run a call in parallel; None if there is no time left for it."""

SEND_WAIT_SECONDS: Final = 0.02
"""How long a page waits for the next call to be sent; only a call budget holds one for longer."""


@dataclass(frozen=True)
class PendingPage:
    """A page that was requested before the page ahead of it was decoded."""

    link: str
    future: "Future[ApiResponse]"
    prefetch: "Prefetch"
    """Prefetches the page after this one."""


class Prefetch:
    """Watches one page arrive, and sends the call for the next one.

    A page that is not awaited yet sends nothing: while one page is decoded, one more may arrive and
    wait, but no third is requested.
    """

    def __init__(self, client: GraphClient, follow: Submit) -> None:
        self._client = client
        self._submit = follow
        self._lock = Lock()
        self._sent_event = Event()
        self._is_awaited = False
        self._next_link: str | None = None
        self._pending_page: PendingPage | None = None

    def mark_sent(self) -> None:
        """Record that the page has been requested."""
        self._sent_event.set()

    def observe(self, head: bytes) -> bool:
        """Send the next call if the bytes so far contain its link; return whether they do."""
        link = peek_next_link(head)
        if link is not None:
            _wait_until_sent(self._send_once(link))
        return link is not None

    def mark_awaited(self) -> None:
        """Record that the page is awaited, and send the next call if its link is known."""
        with self._lock:
            self._is_awaited = True
        self._send_once(self._next_link)

    def finish(self, response: ApiResponse) -> PendingPage | None:
        """Return the pending page after this complete one, if its bytes contain a next link.

        A call sent for another link, seen in a response that broke off, is discarded first.
        """
        link = peek_next_link(response.body) if response.is_success else None
        guess = self._pending_page
        if guess is not None and guess.link != link:
            wait([guess.future])
            self._pending_page = None
        coming = self._send_once(link)
        _wait_until_sent(coming)
        # The HTTP client's reference cycles keep this object alive; release the next page.
        self._pending_page = None
        return coming

    def send(self, link: str) -> PendingPage | None:
        """Send a call whose link is certain, if there is time."""
        onward = Prefetch(self._client, self._submit)
        reply = self._submit(lambda: self._client.get(path_from_link(link), observer=onward))
        if reply is None:
            return None
        reply.add_done_callback(lambda _: onward.mark_sent())
        return PendingPage(link, reply, onward)

    def wait_until_sent(self) -> None:
        """Wait until the page has been requested.

        Reading or decoding another page meanwhile would keep the interpreter from sending it.
        """
        self._sent_event.wait(SEND_WAIT_SECONDS)

    def _send_once(self, link: str | None) -> PendingPage | None:
        """Send the call unless that is done; return the pending page."""
        with self._lock:
            self._next_link = link
            if link is not None and self._is_awaited and self._pending_page is None:
                self._pending_page = self.send(link)
            return self._pending_page


def _wait_until_sent(coming: PendingPage | None) -> None:
    if coming is not None:
        coming.prefetch.wait_until_sent()
