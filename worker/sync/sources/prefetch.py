"""The call behind a page: sent as soon as its link is seen, while the page is still arriving."""

from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from threading import Event, Lock
from typing import Final

from worker.graph.client import GraphClient
from worker.graph.links import path_from_link, peek_next_link
from worker.nango.response import ApiResponse

Submit = Callable[[Callable[[], ApiResponse]], "Future[ApiResponse] | None"]
"""Sends a call beside whatever is being done; None where there is no time left for it."""

SEND_WAIT_SECONDS: Final = 0.02
"""How long a page stands back for the call behind it; only a budget holds one for longer."""


@dataclass(frozen=True)
class PendingPage:
    """An answer that has been asked for before the page ahead of it was understood."""

    link: str
    future: "Future[ApiResponse]"
    prefetch: "Prefetch"
    """What goes on behind it."""


class Prefetch:
    """Watches one page come, and sends the call behind it.

    A page that nobody waits for yet sends nothing: while one page is being understood, one more
    may come and lie there whole, but no third is asked for.
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
        """The page has been asked for."""
        self._sent_event.set()

    def observe(self, head: bytes) -> bool:
        """Take the link, where what has come of the page tells it already."""
        link = peek_next_link(head)
        if link is not None:
            _wait_until_sent(self._send_once(link))
        return link is not None

    def mark_awaited(self) -> None:
        """From now on somebody waits for the page."""
        with self._lock:
            self._is_awaited = True
        self._send_once(self._next_link)

    def finish(self, response: ApiResponse) -> PendingPage | None:
        """The page is whole: what comes behind it, where its bytes tell.

        What was sent for another link, told by an answer that broke off, is let go of first.
        """
        link = peek_next_link(response.body) if response.is_success else None
        guess = self._pending_page
        if guess is not None and guess.link != link:
            wait([guess.future])
            self._pending_page = None
        coming = self._send_once(link)
        _wait_until_sent(coming)
        # The HTTP client's circles keep this object for a while; not what comes behind it, too.
        self._pending_page = None
        return coming

    def send(self, link: str) -> PendingPage | None:
        """Send a call whose link is known for certain, where there is time."""
        onward = Prefetch(self._client, self._submit)
        reply = self._submit(lambda: self._client.get(path_from_link(link), observer=onward))
        if reply is None:
            return None
        reply.add_done_callback(lambda _: onward.mark_sent())
        return PendingPage(link, reply, onward)

    def wait_until_sent(self) -> None:
        """Wait until the page has been asked for.

        Whoever reads or decodes another one meanwhile would keep the interpreter from it.
        """
        self._sent_event.wait(SEND_WAIT_SECONDS)

    def _send_once(self, link: str | None) -> PendingPage | None:
        """Send the call unless that has been done; what is on its way."""
        with self._lock:
            self._next_link = link
            if link is not None and self._is_awaited and self._pending_page is None:
                self._pending_page = self.send(link)
            return self._pending_page


def _wait_until_sent(coming: PendingPage | None) -> None:
    if coming is not None:
        coming.prefetch.wait_until_sent()
