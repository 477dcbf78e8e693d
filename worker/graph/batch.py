"""All requests of one connection, each with proof of the tenant that answered it.

A customer may authorise a connection for another tenant at any moment, so what a call means is
only known together with the organization that answered. ``POST /$batch`` brings both: it is one
call of Nango with one token, so its items are all of one tenant. Where a tenant or a gateway
refuses the envelope, or it cannot be read, the same requests go one by one, and the organization
is asked before and after them. An odd body of one item costs no other.

Only a link whose token is bound to its tenant goes alone: Graph refuses it to any other one, and
a refusal is believed once the organization has been asked.
https://learn.microsoft.com/graph/json-batching
"""

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from http import HTTPStatus
from threading import Lock
from typing import Final

from models.run import RunTrigger
from worker.core.errors import Later
from worker.graph.envelope import Came, opened, requests_of
from worker.graph.links import VERSION, is_bound
from worker.graph.organization import Organization, judged
from worker.graph.targets import ORGANIZATION
from worker.graph.verdict import rejects_token
from worker.nango.client import Address, NangoClient
from worker.nango.connections import renew_token
from worker.nango.exchange import Watch
from worker.nango.reply import Reply
from worker.nango.verdict import StrangeAnswer

LIMIT: Final = 19
"""Requests in one ``$batch``: Graph takes twenty, and one is the organization."""

ROUNDS: Final = 3
"""How often throttled requests of one ``$batch`` are sent again before their streams wait."""


class Batcher:
    """Asks Graph for one connection. Remembers its tenant, and whether ``$batch`` works.

    Safe to use from several threads.
    """

    def __init__(
        self,
        nango: NangoClient,
        address: Address,
        *,
        lane: RunTrigger = RunTrigger.MANUAL,
        tenant: str | None = None,
    ) -> None:
        self._nango = nango
        self._address = address
        self._lane = lane
        self._tenant = tenant
        self.before: Callable[[], None] | None = None
        """Called ahead of every request, on its thread: the lease must outlive the answer."""
        self._usable = True
        self._renewals = 0
        self._renewing = Lock()

    def open(self, targets: Mapping[str, str]) -> tuple[Organization, dict[str, Reply]]:
        """The organization, with as many other answers as ``$batch`` gives along with it.

        Where it is refused, only the organization is answered. What Graph wants held back
        although the rest may go is left out. Where no tenant was known, this one is it from now on.
        """
        waits = self._nango.waits_apart
        ready = {name: one for name, one in targets.items() if not waits(self._address, one)}
        organization, replies = self._together(ready) if self._usable and ready else (None, {})
        return organization or self._organization(), replies

    def get(self, target: str, *, watch: Watch | None = None) -> Reply:
        """One answer; ``watch`` sees it while it is still arriving, before anybody judged it.

        Raises Broken where another tenant answers, and what a call raises.
        """
        if is_bound(target):
            return self._alone(target, watch)
        reply = self._proven({target: target}, watch)[target]
        if reply.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:  # for an item of a ``$batch``
            return self._singly({target: target}, watch)[target]
        return reply

    def get_all(self, targets: Mapping[str, str]) -> dict[str, Reply]:
        """Answers by name, for targets by name; every name is answered.

        Raises Broken where another tenant answers, and what a call raises when the envelope
        itself fails.
        """
        replies: dict[str, Reply] = {}
        names = list(targets)
        for start in range(0, len(names), LIMIT):
            chunk = names[start : start + LIMIT]
            replies |= self._proven({name: targets[name] for name in chunk})
        return replies

    # ---- alone

    def _alone(self, target: str, watch: Watch | None) -> Reply:
        """A link that is bound to its tenant; what is refused may be so to another one."""
        reply = self._send(target, watch)
        if not 400 <= reply.status < 500:
            return reply
        renewals = self._renewals
        self._organization()
        if rejects_token(reply) and self._renewals > renewals:
            reply = self._send(target, watch)
        return replace(reply, vouched=True)

    def _organization(self) -> Organization:
        """Ask for it alone. Raises Broken where it is another one, or the token is rejected."""
        renewals = self._renewals
        try:
            reply = self._send(ORGANIZATION)
            if rejects_token(reply) and self._renew(renewals):
                reply = self._send(ORGANIZATION)
        except Later as trouble:
            trouble.status = 0  # it says nothing about the request that it is asked for
            raise
        return self._judge(reply)

    def _judge(self, reply: Reply) -> Organization:
        organization = judged(reply, self._tenant)
        self._tenant = organization.tenant
        return organization

    def _renew(self, renewals: int) -> bool:
        """Have Nango renew a token that Graph rejects; whether there is a new one to try.

        ``renewals`` is how many there had been when the rejected call was sent: calls side by side
        are all rejected, and one renewal serves them.
        """
        with self._renewing:
            if self._renewals == renewals:
                self._about_to_ask()
                if not renew_token(self._nango, self._address):
                    return False
                self._renewals += 1
            return True

    def _send(self, target: str, watch: Watch | None = None) -> Reply:
        self._about_to_ask()
        return self._nango.proxy(self._address, target, lane=self._lane, watch=watch)

    def _about_to_ask(self) -> None:
        if self.before is not None:
            self.before()

    # ---- with the organization

    def _proven(self, targets: dict[str, str], watch: Watch | None = None) -> dict[str, Reply]:
        """The answers of the connection's own tenant."""
        replies = self._together(targets, watch)[1] if self._usable else {}
        missing = {name: one for name, one in targets.items() if name not in replies}
        if missing:
            replies |= self._singly(missing, watch)
        return {name: replies[name] for name in targets}

    def _singly(self, targets: dict[str, str], watch: Watch | None) -> dict[str, Reply]:
        """One by one, between two looks at the organization; again where its token was renewed."""
        self._organization()
        renewals = self._renewals
        replies = {name: self._send(target, watch) for name, target in targets.items()}
        self._organization()
        if self._renewals > renewals and any(map(rejects_token, replies.values())):
            replies = {name: self._send(target, watch) for name, target in targets.items()}
            self._organization()
        return _vouched(replies)

    def _together(
        self, targets: dict[str, str], watch: Watch | None = None
    ) -> tuple[Organization | None, dict[str, Reply]]:
        """The organization with the answers of its tenant; none where ``$batch`` is of no use.

        What was throttled is sent again by itself while that is soon, and judged again with the
        organization of that call.
        """
        organization, came = None, None
        replies: dict[str, Reply] = {}
        until = time.monotonic() + self._nango.patience.deadline
        for attempt in range(ROUNDS + 1):
            try:
                came = self._envelope(targets, watch)
            except Later:
                if organization is None:
                    raise
                break  # what has been answered stands; the rest says itself when to come back
            if came is not None and came.proves_tenant:
                organization = self._judge(came.organization)
                replies |= _vouched(came.replies)
                targets = {name: targets[name] for name in targets if name in came.throttled}
            if not self._paused(came, attempt, until):
                break
        if organization is None and came is not None:
            organization = self._judge(came.organization)
        return organization, replies

    def _paused(self, came: Came | None, attempt: int, until: float) -> bool:
        """Wait until what was throttled may be sent again; not where that is not soon."""
        longest = self._nango.patience.pause
        pause = came.pause(attempt, longest) if came is not None else None
        if pause is None or attempt == ROUNDS or pause > longest:
            return False
        if time.monotonic() + pause > until:
            return False
        time.sleep(pause + 0.2 * random.random())
        return True

    def _envelope(self, targets: dict[str, str], watch: Watch | None) -> Came | None:
        """One ``$batch``, with a new token where Graph rejects the one that Nango has.

        None where it is refused, or proves no tenant.
        """
        renewals = self._renewals
        try:
            reply = self._post(targets, watch)
        except StrangeAnswer:  # a firewall may let single requests pass
            self._usable = False
            return None
        if rejects_token(reply):
            self._organization()
            if self._renewals > renewals:
                reply = self._post(targets, watch)
        if not reply.ok and reply.status != HTTPStatus.FAILED_DEPENDENCY:
            self._usable = False
            return None
        came = self._heeded(targets, reply)
        if came is not None and rejects_token(came.organization) and self._renew(renewals):
            came = self._heeded(targets, self._post(targets, watch))
        return came

    def _post(self, targets: dict[str, str], watch: Watch | None) -> Reply:
        self._about_to_ask()
        return self._nango.proxy(
            self._address,
            f"{VERSION}/$batch",
            method="POST",
            body=requests_of(targets),
            lane=self._lane,
            inside=next(iter(targets.values())),
            watch=watch,
        )

    def _heeded(self, targets: dict[str, str], reply: Reply) -> Came | None:
        """What came in an envelope, once the customer's budget knows of it."""
        came = opened(targets, reply)
        if came is not None:
            self._nango.heed(self._address, ORGANIZATION, came.organization)
            for name, one in came.replies.items():
                self._nango.heed(self._address, targets[name], one)
        return came


def _vouched(replies: Mapping[str, Reply]) -> dict[str, Reply]:
    return {name: replace(reply, vouched=True) for name, reply in replies.items()}
