"""Sends all Graph requests of one connection and proves which tenant answered each.

Customers may authorise a connection for another tenant at any moment, so a response only counts
together with the organization that answered. ``POST /$batch`` brings both: it is one call of Nango
with one token, so all its items are of one tenant. If a tenant or a gateway refuses ``$batch``, or
its response cannot be read, the requests are sent one by one, with the organization before and
after them. A malformed body of one item does not affect the others.

Only a link whose token is bound to its tenant is sent alone: Graph refuses it to any other tenant,
and such a refusal only counts after the organization has been checked.
https://learn.microsoft.com/graph/json-batching
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from http import HTTPStatus
from itertools import islice
from threading import Lock
from typing import Final

from models.counter import WaitReason
from models.run import RunTrigger
from worker.core.errors import RetryLater
from worker.graph.batch_body import BatchResult, build_batch, parse_batch
from worker.graph.errors import is_token_rejected
from worker.graph.links import VERSION, is_tenant_bound
from worker.graph.organization import Organization, parse_organization
from worker.graph.throttle import DIRECTORY_SERVICE
from worker.graph.urls import ORGANIZATION_PATH
from worker.nango.client import ConnectionRef, NangoClient
from worker.nango.connections import renew_token
from worker.nango.errors import InterceptedResponse
from worker.nango.response import ApiResponse
from worker.nango.transport import ResponseObserver

MAX_BATCH_ITEMS: Final = 19
"""Requests in one ``$batch``: Graph accepts twenty, and one is the organization."""

MAX_RESENDS: Final = 3
"""Resends of throttled requests of one ``$batch`` before their streams wait."""


class GraphClient:
    """The Graph client of one connection. Remembers its tenant, and whether ``$batch`` works.

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
        """Called before every request, on its thread, to extend the lease beyond the response."""
        self._batch_usable = True
        self._renewals = 0
        self._renewing = Lock()

    def open(self, paths: Mapping[str, str]) -> tuple[Organization, dict[str, ApiResponse]]:
        """Return the organization, and the responses to ``paths`` from the same ``$batch``.

        If ``$batch`` is refused, there are no responses. Paths of a throttled service are left out,
        and so are the last ones beyond what a ``$batch`` holds. If no tenant was known, this one is
        remembered.
        """
        known = ((name, one) for name, one in paths.items() if not self._is_held_back(one))
        ready = dict(islice(known, MAX_BATCH_ITEMS))
        organization, replies = (
            self._send_batch_with_retries(ready) if self._batch_usable and ready else (None, {})
        )
        return organization or self._fetch_organization(), replies

    def _is_held_back(self, path: str) -> bool:
        """Whether Graph throttles this path's service, but not the others of a ``$batch``."""
        service = self._nango.throttle.find_service(path)
        if service == DIRECTORY_SERVICE:
            return False
        connection = str(self._connection)
        return connection in self._nango.limiter.read_pauses([connection], [service])

    def get(self, path: str, *, observer: ResponseObserver | None = None) -> ApiResponse:
        """Return one response; ``observer`` sees it while it arrives, before the tenant is checked.

        Raises ConnectionBroken if another tenant answers, and the errors of ``NangoClient.proxy``.
        """
        if is_tenant_bound(path):
            return self._get_bound_link(path, observer)
        response = self._get_with_proof({path: path}, observer)[path]
        if response.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:  # for an item of a ``$batch``
            return self._get_one_by_one({path: path}, observer)[path]
        return response

    def get_all(self, paths: Mapping[str, str]) -> dict[str, ApiResponse]:
        """Return responses by name, for paths by name; every name gets one.

        Raises ConnectionBroken if another tenant answers, and the errors of ``NangoClient.proxy``
        if the ``$batch`` itself fails.
        """
        replies: dict[str, ApiResponse] = {}
        names = list(paths)
        for start in range(0, len(names), MAX_BATCH_ITEMS):
            chunk = names[start : start + MAX_BATCH_ITEMS]
            replies |= self._get_with_proof({name: paths[name] for name in chunk})
        return replies

    # ---- requests sent alone

    def _get_bound_link(self, target: str, observer: ResponseObserver | None) -> ApiResponse:
        """Send a tenant-bound link alone; check the tenant after a refusal."""
        response = self._send(target, observer)
        if not 400 <= response.status < 500:
            return response
        renewals = self._renewals
        self._fetch_organization()
        if is_token_rejected(response) and self._renewals > renewals:
            response = self._send(target, observer)
        return replace(response, is_tenant_proven=True)

    def _fetch_organization(self) -> Organization:
        """Request the organization alone.

        Raises ConnectionBroken if it is another tenant's, or the token is rejected.
        """
        renewals = self._renewals
        try:
            response = self._send(ORGANIZATION_PATH)
            if is_token_rejected(response) and self._renew(renewals):
                response = self._send(ORGANIZATION_PATH)
        except RetryLater as error:
            self._nango.note_refusal(self._connection, ORGANIZATION_PATH, error)
            error.status = 0  # this status is not about the caller's request
            raise
        return self._check_tenant(response)

    def _check_tenant(self, response: ApiResponse) -> Organization:
        organization = parse_organization(response, self._tenant)
        self._tenant = organization.tenant_id
        return organization

    def _renew(self, renewals: int) -> bool:
        """Have Nango renew a token that Graph rejects; return whether there is a new one to try.

        ``renewals`` is their number when the rejected call was sent: concurrent calls are all
        rejected, and one renewal serves them all.
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

    # ---- requests sent with the organization

    def _get_with_proof(
        self, paths: dict[str, str], observer: ResponseObserver | None = None
    ) -> dict[str, ApiResponse]:
        """Return the responses, proven to be of the connection's own tenant."""
        replies = self._send_batch_with_retries(paths, observer)[1] if self._batch_usable else {}
        missing = {name: one for name, one in paths.items() if name not in replies}
        if missing:
            replies |= self._get_one_by_one(missing, observer)
        return {name: replies[name] for name in paths}

    def _get_one_by_one(
        self, paths: dict[str, str], observer: ResponseObserver | None
    ) -> dict[str, ApiResponse]:
        """Send each alone, between two checks of the organization; again if a token was renewed."""
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
        """Return the organization and its tenant's responses; None if ``$batch`` cannot be used.

        Throttled requests are sent again while the pause is short, and checked against the
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
                break  # keep what was answered; the throttled responses hold their own Retry-After
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
        """Wait until throttled requests may be sent again; return False if the wait is too long."""
        longest = self._nango.retry_policy.max_pause
        pause = came.compute_pause(attempt, longest) if came is not None else None
        if pause is None or attempt == MAX_RESENDS or pause > longest:
            return False
        if time.monotonic() + pause > until:
            return False
        self._nango.wait(pause, WaitReason.GRAPH)
        return True

    def _send_batch(
        self, paths: dict[str, str], observer: ResponseObserver | None
    ) -> BatchResult | None:
        """Send one ``$batch``, again with a new token if Graph rejects Nango's.

        Returns None if it is refused, or proves no tenant.
        """
        renewals = self._renewals
        try:
            response = self._post(paths, observer)
        except InterceptedResponse:  # a firewall may let single requests pass
            self._batch_usable = False
            return None
        if is_token_rejected(response):
            self._fetch_organization()
            if self._renewals > renewals:
                response = self._post(paths, observer)
        if not response.is_success and response.status != HTTPStatus.FAILED_DEPENDENCY:
            self._batch_usable = False
            return None
        came = self._parse_batch(paths, response)
        if came is not None and is_token_rejected(came.organization) and self._renew(renewals):
            came = self._parse_batch(paths, self._post(paths, observer))
        return came

    def _post(self, paths: dict[str, str], observer: ResponseObserver | None) -> ApiResponse:
        self._call_before_send()
        try:
            return self._nango.proxy(
                self._connection,
                f"{VERSION}/$batch",
                method="POST",
                body=build_batch(paths),
                lane=self._lane,
                batched_path=next(iter(paths.values())),
                observer=observer,
            )
        except RetryLater as error:
            self._nango.note_refusal(self._connection, ORGANIZATION_PATH, error)
            raise

    def _parse_batch(self, paths: dict[str, str], response: ApiResponse) -> BatchResult | None:
        """Parse a ``$batch`` response, after recording the throttling of its items."""
        came = parse_batch(paths, response)
        if came is not None:
            self._nango.note_throttling(self._connection, ORGANIZATION_PATH, came.organization)
            for name, one in came.responses.items():
                self._nango.note_throttling(self._connection, paths[name], one)
        return came


def _mark_tenant_proven(replies: Mapping[str, ApiResponse]) -> dict[str, ApiResponse]:
    return {name: replace(response, is_tenant_proven=True) for name, response in replies.items()}
