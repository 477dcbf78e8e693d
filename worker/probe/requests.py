"""Sends the requests of a probe, all of them reads, each once.

Nothing is stored, so a probe may run during a sync.
"""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any, Final

from models.resource import Resource
from models.resources.group_members import GROUP_MEMBERS
from models.resources.groups import GROUPS
from models.resources.role_assignments import ROLE_ASSIGNMENTS
from models.resources.role_definitions import ROLE_DEFINITIONS
from models.resources.sites import SITES
from models.resources.users import USERS
from models.source import Mode
from worker.core.errors import (
    ConfigurationError,
    ConnectionBroken,
    MalformedResponse,
    MirrorError,
    ServerUnavailable,
)
from worker.graph.batch_body import build_batch, parse_batch
from worker.graph.client import MAX_BATCH_ITEMS
from worker.graph.decode import decode_page
from worker.graph.errors import classify_graph_response
from worker.graph.links import VERSION, path_from_link, to_batch_url
from worker.graph.memberships import parse_members
from worker.graph.page import Page, PageEdges
from worker.graph.urls import (
    ORGANIZATION_PATH,
    build_delta_url,
    build_filtered_url,
    build_listing_url,
    build_members_path,
    build_token_url,
)
from worker.nango.client import ConnectionRef, NangoClient
from worker.nango.response import ApiResponse
from worker.probe.answers import (
    MAX_SINGLE_CALLS,
    ProbeAnswer,
    ProbeAnswers,
    ProbeCall,
    StopReason,
    is_transient,
    parse_batch_items,
)
from worker.probe.further import FurtherRequest, list_further_requests
from worker.probe.scope import ProbeScope

PERMISSION: Final = "Organization.Read.All"
_SMALL_PAGE: Final = "?$select=id&$top=1"

NO_DELTA_STATUSES: Final = (400, 404, 501)
"""Statuses with which Graph refuses delta to types of tenants without it."""

ParseBody = Callable[[bytes], Page]

OnCall = Callable[[str, int], None]
"""Called with each call and its number before it is sent."""


def run_probe(
    nango: NangoClient,
    address: ConnectionRef,
    tenant: str | None,
    on_call: OnCall,
    scope: ProbeScope | None = None,
) -> ProbeAnswers:
    """Send every request once; ``tenant`` is the one that this connection had before.

    Without a ``scope`` all resources are asked for. Errors of Nango or Graph are recorded, not
    raised.
    """
    answers = ProbeAnswers(known_tenant=tenant, scope=scope or ProbeScope())
    asking = _Prober(nango, address, answers, on_call)
    asking.ask_organization()
    asking.ask_batch()
    for resource, ask in asking.list_steps():
        if answers.scope.includes(resource):
            ask(answers.scope.list_left_out(resource))
    asking.ask_further()
    return answers


def list_batch_paths(scope: ProbeScope) -> list[str]:
    """Return what the first ``$batch`` asks for: three items, if all resources are on."""
    wanted = [one for one in (USERS, GROUPS) if scope.includes(one)]
    return [ORGANIZATION_PATH, *(f"{VERSION}{one.source.path}{_SMALL_PAGE}" for one in wanted)]


@dataclass
class _Prober:
    """The state of a running probe."""

    nango: NangoClient
    address: ConnectionRef
    answers: ProbeAnswers
    on_call: OnCall
    calls_before: int = 0
    failures_in_a_row: int = 0

    def __post_init__(self) -> None:
        self.calls_before = self.nango.calls

    def ask_organization(self) -> None:
        answer = self._ask(ProbeCall.ORGANIZATION, ORGANIZATION_PATH, PERMISSION)
        if answer is None or answer.response is None or not answer.is_success:
            return
        found = self.answers.organizations = parse_organization_ids(answer.response)
        if self.answers.known_tenant and found and self.answers.known_tenant not in found:
            self.answers.stop_reason = StopReason.OTHER_TENANT

    def ask_batch(self) -> None:
        requests = [
            {"id": str(index), "method": "GET", "url": to_batch_url(target)}
            for index, target in enumerate(list_batch_paths(self.answers.scope))
        ]
        body = {"requests": requests}
        answer = self._ask(ProbeCall.BATCH, f"{VERSION}/$batch", method="POST", body=body)
        items = parse_batch_items(answer.response) if answer and answer.response else []
        if any(item.get("status") == 429 for item in items):
            self.answers.stop_reason = StopReason.THROTTLED

    def list_steps(self) -> list[tuple[Resource, Callable[[Collection[str]], None]]]:
        """Return the resources with steps of their own, and these steps, in order.

        A step is told the properties and relations that it must not ask for.
        """
        return [
            (USERS, self.ask_users),
            (GROUPS, self.ask_groups),
            (SITES, self.ask_sites),
            (ROLE_DEFINITIONS, self.ask_role_definitions),
            (ROLE_ASSIGNMENTS, self.ask_role_assignments),
        ]

    def ask_users(self, without: Collection[str]) -> None:
        listed = self._ask_page(ProbeCall.USERS, build_listing_url(USERS, without), USERS)
        self._ask_next_page(ProbeCall.USERS_NEXT, listed, USERS)
        page = self._ask_page(ProbeCall.TOKEN, build_token_url(USERS, without), USERS)
        page = self._ask_next_page(ProbeCall.TOKEN_NEXT, page, USERS) or page
        if page is not None and page.delta_link is not None:
            self._ask_page(ProbeCall.DELTA, page.delta_link, USERS)

    def ask_groups(self, without: Collection[str]) -> None:
        first = self._ask_page(ProbeCall.GROUPS, build_delta_url(GROUPS, without), GROUPS)
        self._ask_next_page(ProbeCall.GROUPS_NEXT, first, GROUPS)
        if not self.answers.is_refused(ProbeCall.GROUPS, *NO_DELTA_STATUSES):
            return
        listed = self._ask_page(ProbeCall.GROUP_LIST, build_listing_url(GROUPS, without), GROUPS)
        if listed and listed.rows and self.answers.scope.includes(GROUP_MEMBERS):
            group, edge = next(iter(listed.rows)), GROUP_MEMBERS
            read = partial(parse_members_page, edge, group)
            path = build_members_path(edge, group)
            self._ask(ProbeCall.MEMBERS, path, edge.permission, read)

    def ask_sites(self, without: Collection[str]) -> None:
        self._ask_page(ProbeCall.ALL_SITES, build_listing_url(SITES, without), SITES)
        if self.answers.is_refused(ProbeCall.ALL_SITES):
            self._ask_page(
                ProbeCall.SITE_SEARCH,
                build_listing_url(SITES, without, source=SITES.sources[Mode.SEARCH]),
                SITES,
            )

    def ask_role_definitions(self, without: Collection[str]) -> None:
        link = build_listing_url(ROLE_DEFINITIONS, without)
        self._ask_page(ProbeCall.ROLE_DEFINITIONS, link, ROLE_DEFINITIONS)

    def ask_role_assignments(self, without: Collection[str]) -> None:
        """Ask for all; if a filter is required, for those of one role that was listed."""
        link = build_listing_url(ROLE_ASSIGNMENTS, without)
        self._ask_page(ProbeCall.ROLE_ASSIGNMENTS, link, ROLE_ASSIGNMENTS)
        definitions = self.answers.get_page(ProbeCall.ROLE_DEFINITIONS)
        is_refused = self.answers.is_refused(ProbeCall.ROLE_ASSIGNMENTS, 400)
        if is_refused and definitions and definitions.rows:
            link = build_filtered_url(ROLE_ASSIGNMENTS, next(iter(definitions.rows)))
            self._ask_page(ProbeCall.FILTERED, link, ROLE_ASSIGNMENTS)

    def ask_further(self) -> None:
        """Ask for the resources without steps of their own: together, or alone without ``$batch``.

        Their answers count as items, so that one that is refused is not a call that failed.
        """
        requests = list_further_requests(self.answers.scope)
        if self.answers.is_refused(ProbeCall.BATCH):
            for one in requests:
                read = partial(decode_page, one.resource)
                answer = self._ask(one.name, one.target, one.resource.permission, read)
                self.answers.items |= {one.name: answer} if answer else {}
            return
        for start in range(0, len(requests), MAX_BATCH_ITEMS):
            self._ask_items(requests[start : start + MAX_BATCH_ITEMS])

    def _ask_items(self, requests: Sequence[FurtherRequest]) -> None:
        targets = {one.name: one.target for one in requests}
        body = build_batch(targets)
        answer = self._ask(ProbeCall.FURTHER, f"{VERSION}/$batch", method="POST", body=body)
        if answer is None:
            return
        parsed = parse_batch(targets, answer.response) if answer.response else None
        came = parsed.responses if parsed else {}
        for one in requests:
            item = _build_item(one, came.get(one.name), answer)
            self.answers.items[one.name] = item
            if item.status == HTTPStatus.TOO_MANY_REQUESTS:
                self.answers.stop_reason = StopReason.THROTTLED

    def _ask_next_page(self, asked: str, page: Page | None, resource: Resource) -> Page | None:
        if page is None or page.next_link is None:
            return None
        return self._ask_page(asked, page.next_link, resource)

    def _ask_page(self, asked: str, link: str, resource: Resource) -> Page | None:
        try:
            target = path_from_link(link)
        except MalformedResponse as error:
            self.answers.by_call[asked] = ProbeAnswer(asked, error=error, was_sent=False)
            return None
        answer = self._ask(asked, target, resource.permission, partial(decode_page, resource))
        return answer.page if answer else None

    def _ask(
        self,
        asked: str,
        target: str,
        permission: str = "",
        read: ParseBody | None = None,
        **request: Any,
    ) -> ProbeAnswer | None:
        number = self.nango.calls - self.calls_before + 1
        if self.answers.stop_reason is None and number > MAX_SINGLE_CALLS:
            self.answers.stop_reason = StopReason.ENOUGH
        if self.answers.stop_reason is not None:
            return None
        self.on_call(asked, number)
        response, page, error = None, None, None
        started = time.monotonic()
        try:
            response = self.nango.proxy(self.address, target, single_attempt=True, **request)
        except ServerUnavailable as away:
            away.connection = None
            raise
        except MirrorError as caught:
            error = caught
        seconds = time.monotonic() - started
        if response is not None:
            page, error = parse_response(response, permission, read)
        answer = ProbeAnswer(asked, permission, response, page, error, seconds)
        self.answers.by_call[asked] = answer
        self.failures_in_a_row = self.failures_in_a_row + 1 if is_transient(error) else 0
        self.answers.stop_reason = find_stop_reason(answer, self.failures_in_a_row)
        return answer


def parse_response(
    response: ApiResponse, permission: str, read: ParseBody | None
) -> tuple[Page | None, MirrorError | None]:
    """Return the page in a response, or its error."""
    error = classify_graph_response(response, time.time(), permission)
    if error is not None or read is None:
        return None, error
    try:
        return read(response.body), None
    except MalformedResponse as torn:
        return None, torn


def _build_item(
    request: FurtherRequest, response: ApiResponse | None, call: ProbeAnswer
) -> ProbeAnswer:
    """Return an item's answer: that of its call if the call failed, or left the item out."""
    permission = request.resource.permission
    if response is None:
        missing = MalformedResponse("the answer to an item is missing")
        return ProbeAnswer(request.name, permission, call.response, error=call.error or missing)
    read = partial(decode_page, request.resource)
    return ProbeAnswer(
        request.name, permission, response, *parse_response(response, permission, read)
    )


def parse_members_page(edge: Resource, group_id: str, body: bytes) -> Page:
    """Parse the members of a group as a page. Raises MalformedResponse if the body is none."""
    found, link = parse_members(group_id, body)
    return Page(count=len(found), edges={edge.name: PageEdges(found)}, next_link=link)


def parse_organization_ids(response: ApiResponse) -> list[str]:
    """Return the tenant ids in a response, in lower case. They are never shown."""
    document = response.parse_json()
    value = document.get("value") if isinstance(document, dict) else None
    rows = value if isinstance(value, list) else []
    ids = [row.get("id") for row in rows if isinstance(row, dict)]
    return [identity.lower() for identity in ids if isinstance(identity, str)]


def find_stop_reason(answer: ProbeAnswer, fruitless: int) -> StopReason | None:
    """Return why the probe must stop after this response, such as a requested pause, or None."""
    error = answer.error
    if isinstance(error, ConfigurationError):
        return StopReason.SETTINGS
    if isinstance(error, ConnectionBroken):
        return StopReason.BROKEN
    if not is_transient(error):
        return None
    assert error is not None
    named = answer.response.get_retry_after(time.time()) if answer.response else error.after
    if answer.status == 429 or (named or 0.0) > 0.0:
        return StopReason.THROTTLED
    return StopReason.SILENT if fruitless > 1 else None
