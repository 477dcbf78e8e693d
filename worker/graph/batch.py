"""Many small requests in one: ``POST /$batch``.

Answers come in any order and each is judged by itself; one may be missing. A tenant or gateway
that refuses the envelope gets the same requests one by one, and so does one whose envelope cannot
be read: a single odd body spoils it, and alone costs only itself.
https://learn.microsoft.com/graph/json-batching
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from models.run import RunTrigger
from worker.core.errors import Later
from worker.graph.links import VERSION, batch_url
from worker.nango.client import Address, NangoClient
from worker.nango.exchange import Watch
from worker.nango.reply import PASSING, UNREADABLE, Reply

LIMIT: Final = 20
ROUNDS: Final = 3
"""How often throttled requests of one ``$batch`` are sent again before their streams wait."""


class _Item(msgspec.Struct, frozen=True):
    id: str
    status: int
    headers: dict[str, Any] | None = None
    body: msgspec.Raw = msgspec.Raw(b"")


class _Envelope(msgspec.Struct, frozen=True):
    responses: list[_Item]


class Batcher:
    """Sends groups of requests for one connection, remembering whether ``$batch`` works."""

    def __init__(
        self, nango: NangoClient, address: Address, *, lane: RunTrigger = RunTrigger.MANUAL
    ) -> None:
        self._nango = nango
        self._address = address
        self._lane = lane
        self.before: Callable[[], None] | None = None
        """Called ahead of every request, on its thread: the lease must outlive the answer."""
        self._usable = True

    def get(self, target: str, *, watch: Watch | None = None) -> Reply:
        """One request on its own; ``watch`` sees the answer while it is still arriving."""
        self._about_to_ask()
        return self._nango.proxy(self._address, target, lane=self._lane, watch=watch)

    def get_all(self, targets: Mapping[str, str]) -> dict[str, Reply]:
        """Answers by name, for targets by name; every name is answered.

        Raises what a single call raises when the envelope itself fails.
        """
        replies: dict[str, Reply] = {}
        names = list(targets)
        for start in range(0, len(names), LIMIT):
            chunk = names[start : start + LIMIT]
            replies |= self._chunk({name: targets[name] for name in chunk})
        return replies

    def open(self, first: str, targets: Mapping[str, str]) -> dict[str, Reply]:
        """The named first request with as many others as ``$batch`` gives along with it.

        Where it is refused, only the first is answered: the rest is asked for once that has
        been judged. So is what Graph wants held back although the first may go.
        """
        waits = self._nango.waits_apart
        ready = {name: one for name, one in targets.items() if not waits(self._address, one)}
        replies = self._settled(ready) if self._usable and len(ready) > 1 else {}
        if first not in replies:
            replies = {first: self.get(targets[first])}
        return replies

    def _chunk(self, targets: dict[str, str]) -> dict[str, Reply]:
        replies = self._settled(targets) if self._usable and len(targets) > 1 else {}
        for name in targets.keys() - replies.keys():
            replies[name] = self.get(targets[name])
        return replies

    def _settled(self, targets: dict[str, str]) -> dict[str, Reply]:
        """The answers; what was throttled is sent again by itself while that is soon."""
        replies = self._together(targets)
        until = time.monotonic() + self._nango.patience.deadline
        for attempt in range(ROUNDS):
            again = {name: one for name, one in replies.items() if one.status in PASSING}
            pause = max((_pause(one, attempt) for one in again.values()), default=0.0)
            too_long = pause > self._nango.patience.pause or time.monotonic() + pause > until
            if not again or too_long or not self._usable:
                break
            time.sleep(pause)
            try:
                replies |= self._together({name: targets[name] for name in again})
            except Later:
                break  # what has been answered stands; the rest says itself when to come back
        return replies

    def _about_to_ask(self) -> None:
        if self.before is not None:
            self.before()

    def _together(self, targets: dict[str, str]) -> dict[str, Reply]:
        names = list(targets)
        requests = [
            {"id": str(index), "method": "GET", "url": batch_url(targets[name])}
            for index, name in enumerate(names)
        ]
        self._about_to_ask()
        reply = self._nango.proxy(
            self._address,
            f"{VERSION}/$batch",
            method="POST",
            body={"requests": requests},
            lane=self._lane,
            inside=targets[names[0]],
        )
        if not reply.ok and reply.status != 424:
            self._usable = False
            return {}
        answers = {str(index): name for index, name in enumerate(names)}
        replies = {answers[item.id]: _reply(item) for item in _items(reply) if item.id in answers}
        for name, one in replies.items():
            self._nango.heed(self._address, targets[name], one)
        return replies


def _pause(reply: Reply, attempt: int) -> float:
    """Seconds before a throttled request goes out again, with jitter."""
    asked = reply.retry_after(time.time())
    return (0.5 * 2**attempt if asked is None else asked) + 0.2 * random.random()


def _items(reply: Reply) -> Sequence[_Item]:
    try:
        return msgspec.json.decode(reply.body, type=_Envelope).responses
    except UNREADABLE:
        return []


def _reply(item: _Item) -> Reply:
    headers = {name.lower(): str(value) for name, value in (item.headers or {}).items()}
    return Reply(item.status, bytes(item.body), headers)
