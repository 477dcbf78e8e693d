"""The call behind a page: sent as soon as its link is seen, while the page is still arriving."""

from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from threading import Event, Lock
from typing import Final

from worker.graph.batch import Batcher
from worker.graph.links import peeked, target_of
from worker.nango.reply import Reply

Follow = Callable[[Callable[[], Reply]], "Future[Reply] | None"]
"""Sends a call beside whatever is being done; None where there is no time left for it."""

WAY_SECONDS: Final = 0.02
"""How long a page stands back for the call behind it; only a budget holds one for longer."""


@dataclass(frozen=True)
class Coming:
    """An answer that has been asked for before the page ahead of it was understood."""

    link: str
    reply: "Future[Reply]"
    onward: "Onward"
    """What goes on behind it."""


class Onward:
    """Watches one page come, and sends the call behind it.

    A page that nobody waits for yet sends nothing: while one page is being understood, one more
    may come and lie there whole, but no third is asked for.
    """

    def __init__(self, batcher: Batcher, follow: Follow) -> None:
        self._batcher = batcher
        self._follow = follow
        self._lock = Lock()
        self._out = Event()
        self._awaited = False
        self._link: str | None = None
        self._coming: Coming | None = None

    def sent(self) -> None:
        """The page has been asked for."""
        self._out.set()

    def look(self, head: bytes) -> bool:
        """Take the link, where what has come of the page tells it already."""
        link = peeked(head)
        if link is not None:
            _give_way_to(self._go(link))
        return link is not None

    def await_page(self) -> None:
        """From now on somebody waits for the page."""
        with self._lock:
            self._awaited = True
        self._go(self._link)

    def behind(self, reply: Reply) -> Coming | None:
        """The page is whole: what comes behind it, where its bytes tell.

        What was sent for another link, told by an answer that broke off, is let go of first.
        """
        link = peeked(reply.body) if reply.ok else None
        guess = self._coming
        if guess is not None and guess.link != link:
            wait([guess.reply])
            self._coming = None
        coming = self._go(link)
        _give_way_to(coming)
        # The HTTP client's circles keep this object for a while; not what comes behind it, too.
        self._coming = None
        return coming

    def ask(self, link: str) -> Coming | None:
        """Send a call whose link is known for certain, where there is time."""
        onward = Onward(self._batcher, self._follow)
        reply = self._follow(lambda: self._batcher.get(target_of(link), watch=onward))
        if reply is None:
            return None
        reply.add_done_callback(lambda _: onward.sent())
        return Coming(link, reply, onward)

    def give_way(self) -> None:
        """Wait until the page has been asked for.

        Whoever reads or decodes another one meanwhile would keep the interpreter from it.
        """
        self._out.wait(WAY_SECONDS)

    def _go(self, link: str | None) -> Coming | None:
        """Send the call unless that has been done; what is on its way."""
        with self._lock:
            self._link = link
            if link is not None and self._awaited and self._coming is None:
                self._coming = self.ask(link)
            return self._coming


def _give_way_to(coming: Coming | None) -> None:
    if coming is not None:
        coming.onward.give_way()
