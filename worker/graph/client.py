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
from worker.core.errors import RetryLater
from worker.graph.batch_body import BatchResult, build_batch, parse_batch
from worker.graph.errors import is_token_rejected
from worker.graph.links import VERSION, is_tenant_bound
from worker.graph.organization import Organization, parse_organization
from worker.graph.urls import ORGANIZATION_PATH
from worker.nango.client import ConnectionRef, NangoClient
from worker.nango.connections import renew_token
from worker.nango.errors import InterceptedResponse
from worker.nango.response import ApiResponse
from worker.nango.transport import ResponseObserver

MAX_BATCH_ITEMS: Final = 19
"""Requests in one ``$batch``: Graph takes twenty, and one is the organization."""

MAX_RESENDS: Final = 3
"""How often throttled requests of one ``$batch`` are sent again before their streams wait."""


class GraphClient:
    """Asks Graph for one connection. Remembers its tenant, and whether ``$batch`` works.

    Safe to use from several threads.
    """

    def __init__(
        self,
        nango: NangoClient,
        connection: ConnectionRef,
        *,
        lane: RunTrigger = RunTrigger.MANUAL,
        tenant_id: str | None = None,
    ) -> None:
        self._nango = nango
        self._connection = connection
        self._lane = lane
        self._tenant = tenant_id
        self.before_send: Callable[[], None] | None = None
        """Called ahead of every request, on its thread: the lease must outlive the answer."""
        self._batch_usable = True
        self._renewals = 0
        self._renewing = Lock()

    def open(self, paths: Mapping[str, str]) -> tuple[Organization, dict[str, ApiResponse]]:
        """The organization, with as many other answers as ``$batch`` gives along with it.

        Where it is refused, only the organization is answered. What Graph wants held back
        although the rest may go is left out. Where no tenant was known, this one is it from now on.
        """
        waits = self._nango.is_held_back
        ready = {name: one for name, one in paths.items() if not waits(self._connection, one)}
        organization, replies = (
            self._send_batch_with_retries(ready) if self._batch_usable and ready else (None, {})
        )
        return organization or self._fetch_organization(), replies

    def get(self, path: str, *, observer: ResponseObserver | None = None) -> ApiResponse:
        """One answer; ``observer`` sees it while it is still arriving, before anybody judged it.

        Raises ConnectionBroken where another tenant answers, and what a call raises.
        """
        if is_tenant_bound(path):
            return self._get_bound_link(path, observer)
        reply = self._get_with_proof({path: path}, observer)[path]
        if reply.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:  # for an item of a ``$batch``
            return self._get_one_by_one({path: path}, observer)[path]
        return reply

    def get_all(self, paths: Mapping[str, str]) -> dict[str, ApiResponse]:
        """Answers by name, for targets by name; every name is answered.

        Raises ConnectionBroken where another tenant answers, and what a call raises when the
        envelope itself fails.
        """
        replies: dict[str, ApiResponse] = {}
        names = list(paths)
        for start in range(0, len(names), MAX_BATCH_ITEMS):
            chunk = names[start : start + MAX_BATCH_ITEMS]
            replies |= self._get_with_proof({name: paths[name] for name in chunk})
        return replies

    # ---- alone

    def _get_bound_link(self, target: str, observer: ResponseObserver | None) -> ApiResponse:
        """A link that is bound to its tenant; what is refused may be so to another one."""
        reply = self._send(target, observer)
        if not 400 <= reply.status < 500:
            return reply
        renewals = self._renewals
        self._fetch_organization()
        if is_token_rejected(reply) and self._renewals > renewals:
            reply = self._send(target, observer)
        return replace(reply, is_tenant_proven=True)

    def _fetch_organization(self) -> Organization:
        """Ask for it alone.

        Raises ConnectionBroken where it is another one, or the token is rejected.
        """
        renewals = self._renewals
        try:
            reply = self._send(ORGANIZATION_PATH)
            if is_token_rejected(reply) and self._renew(renewals):
                reply = self._send(ORGANIZATION_PATH)
        except RetryLater as trouble:
            trouble.status = 0  # it says nothing about the request that it is asked for
            raise
        return self._check_tenant(reply)

    def _check_tenant(self, response: ApiResponse) -> Organization:
        organization = parse_organization(response, self._tenant)
        self._tenant = organization.tenant_id
        return organization

    def _renew(self, renewals: int) -> bool:
        """Have Nango renew a token that Graph rejects; whether there is a new one to try.

        ``renewals`` is how many there had been when the rejected call was sent: calls side by side
        are all rejected, and one renewal serves them.
        """
        with self._renewing:
            if self._renewals == renewals:
                self._call_before_send()
                if not renew_token(self._nango, self._connection):
                    return False
                self._renewals += 1
            return True

    def _send(self, target: str, observer: ResponseObserver | None = None) -> ApiResponse:
        self._call_before_send()
        return self._nango.proxy(self._connection, target, lane=self._lane, observer=observer)

    def _call_before_send(self) -> None:
        if self.before_send is not None:
            self.before_send()

    # ---- with the organization

    def _get_with_proof(
        self, paths: dict[str, str], observer: ResponseObserver | None = None
    ) -> dict[str, ApiResponse]:
        """The answers of the connection's own tenant."""
        replies = self._send_batch_with_retries(paths, observer)[1] if self._batch_usable else {}
        missing = {name: one for name, one in paths.items() if name not in replies}
        if missing:
            replies |= self._get_one_by_one(missing, observer)
        return {name: replies[name] for name in paths}

    def _get_one_by_one(
        self, paths: dict[str, str], observer: ResponseObserver | None
    ) -> dict[str, ApiResponse]:
        """One by one, between two looks at the organization; again where its token was renewed."""
        self._fetch_organization()
        renewals = self._renewals
        replies = {name: self._send(target, observer) for name, target in paths.items()}
        self._fetch_organization()
        if self._renewals > renewals and any(map(is_token_rejected, replies.values())):
            replies = {name: self._send(target, observer) for name, target in paths.items()}
            self._fetch_organization()
        return _mark_tenant_proven(replies)

    def _send_batch_with_retries(
        self, paths: dict[str, str], observer: ResponseObserver | None = None
    ) -> tuple[Organization | None, dict[str, ApiResponse]]:
        """The organization with the answers of its tenant; none where ``$batch`` is of no use.

        What was throttled is sent again by itself while that is soon, and judged again with the
        organization of that call.
        """
        organization, came = None, None
        replies: dict[str, ApiResponse] = {}
        until = time.monotonic() + self._nango.retry_policy.deadline
        for attempt in range(MAX_RESENDS + 1):
            try:
                came = self._send_batch(paths, observer)
            except RetryLater:
                if organization is None:
                    raise
                break  # what has been answered stands; the rest says itself when to come back
            if came is not None and came.has_tenant_proof:
                organization = self._check_tenant(came.organization)
                replies |= _mark_tenant_proven(came.responses)
                paths = {name: paths[name] for name in paths if name in came.throttled_names}
            if not self._wait_to_resend(came, attempt, until):
                break
        if organization is None and came is not None:
            organization = self._check_tenant(came.organization)
        return organization, replies

    def _wait_to_resend(self, came: BatchResult | None, attempt: int, until: float) -> bool:
        """Wait until what was throttled may be sent again; not where that is not soon."""
        longest = self._nango.retry_policy.max_pause
        pause = came.compute_pause(attempt, longest) if came is not None else None
        if pause is None or attempt == MAX_RESENDS or pause > longest:
            return False
        if time.monotonic() + pause > until:
            return False
        time.sleep(pause + 0.2 * random.random())
        return True

    def _send_batch(
        self, paths: dict[str, str], observer: ResponseObserver | None
    ) -> BatchResult | None:
        """One ``$batch``, with a new token where Graph rejects the one that Nango has.

        None where it is refused, or proves no tenant.
        """
        renewals = self._renewals
        try:
            reply = self._post(paths, observer)
        except InterceptedResponse:  # a firewall may let single requests pass
            self._batch_usable = False
            return None
        if is_token_rejected(reply):
            self._fetch_organization()
            if self._renewals > renewals:
                reply = self._post(paths, observer)
        if not reply.is_success and reply.status != HTTPStatus.FAILED_DEPENDENCY:
            self._batch_usable = False
            return None
        came = self._parse_batch(paths, reply)
        if came is not None and is_token_rejected(came.organization) and self._renew(renewals):
            came = self._parse_batch(paths, self._post(paths, observer))
        return came

    def _post(self, paths: dict[str, str], observer: ResponseObserver | None) -> ApiResponse:
        self._call_before_send()
        return self._nango.proxy(
            self._connection,
            f"{VERSION}/$batch",
            method="POST",
            body=build_batch(paths),
            lane=self._lane,
            batched_path=next(iter(paths.values())),
            observer=observer,
        )

    def _parse_batch(self, paths: dict[str, str], response: ApiResponse) -> BatchResult | None:
        """What came in an envelope, once the customer's budget knows of it."""
        came = parse_batch(paths, response)
        if came is not None:
            self._nango.note_throttling(self._connection, ORGANIZATION_PATH, came.organization)
            for name, one in came.responses.items():
                self._nango.note_throttling(self._connection, paths[name], one)
        return came


def _mark_tenant_proven(replies: Mapping[str, ApiResponse]) -> dict[str, ApiResponse]:
    return {name: replace(reply, is_tenant_proven=True) for name, reply in replies.items()}
