"""What a probe asks: at most 15 calls, all of them reads, and none is sent twice.

Nothing is stored, so a probe may run beside a sync.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from models.resource import Resource
from models.resources.group_members import GROUP_MEMBERS
from models.resources.groups import GROUPS
from models.resources.role_assignments import ROLE_ASSIGNMENTS
from models.resources.role_definitions import ROLE_DEFINITIONS
from models.resources.sites import SITES
from models.resources.users import USERS
from worker.core.errors import Away, Broken, Halt, Torn, Trouble
from worker.graph.decode import decode_page
from worker.graph.links import VERSION, batch_url, target_of
from worker.graph.memberships import edges_of
from worker.graph.page import Page
from worker.graph.probe.answers import LIMIT, Answer, Answers, Asked, Stop, is_passing, items_of
from worker.graph.targets import (
    ORGANIZATION,
    assignments_link,
    delta_link,
    listing_link,
    members_target,
    search_link,
    token_link,
)
from worker.graph.verdict import graph_trouble
from worker.nango.client import Address, NangoClient
from worker.nango.reply import Reply

PERMISSION: Final = "Organization.Read.All"
IN_BATCH: Final = (
    ORGANIZATION,
    f"{VERSION}/users?$select=id&$top=1",
    f"{VERSION}/groups?$select=id&$top=1",
)

NO_DELTA: Final = (400, 404, 501)
"""How Graph refuses delta to tenants of a kind that has none."""

Read = Callable[[bytes], Page]

Told = Callable[[Asked, int], None]
"""Told about each call before it is sent, with its number."""


def probe(nango: NangoClient, address: Address, tenant: str | None, told: Told) -> Answers:
    """Ask everything, once each; ``tenant`` is the one that this connection had before.

    Raises nothing for what Nango or Graph answer: that is what is looked at.
    """
    asking = _Asking(nango, address, Answers(known_tenant=tenant), told)
    asking.organization()
    asking.batch()
    asking.users()
    asking.groups()
    asking.sites()
    asking.roles()
    return asking.answers


@dataclass
class _Asking:
    """One probe under way."""

    nango: NangoClient
    address: Address
    answers: Answers
    told: Told
    before: int = 0
    fruitless: int = 0

    def __post_init__(self) -> None:
        self.before = self.nango.calls

    def organization(self) -> None:
        answer = self._ask(Asked.ORGANIZATION, ORGANIZATION, PERMISSION)
        if answer is None or answer.reply is None or not answer.ok:
            return
        found = self.answers.organizations = organizations_of(answer.reply)
        if self.answers.known_tenant and found and self.answers.known_tenant not in found:
            self.answers.stop = Stop.OTHER_TENANT

    def batch(self) -> None:
        requests = [
            {"id": str(index), "method": "GET", "url": batch_url(target)}
            for index, target in enumerate(IN_BATCH)
        ]
        body = {"requests": requests}
        answer = self._ask(Asked.BATCH, f"{VERSION}/$batch", method="POST", body=body)
        items = items_of(answer.reply) if answer and answer.reply else []
        if any(item.get("status") == 429 for item in items):
            self.answers.stop = Stop.THROTTLED

    def users(self) -> None:
        self._next(Asked.USERS_NEXT, self._page(Asked.USERS, listing_link(USERS), USERS), USERS)
        page = self._page(Asked.TOKEN, token_link(USERS), USERS)
        page = self._next(Asked.TOKEN_NEXT, page, USERS) or page
        if page is not None and page.delta_link is not None:
            self._page(Asked.DELTA, page.delta_link, USERS)

    def groups(self) -> None:
        first = self._page(Asked.GROUPS, delta_link(GROUPS), GROUPS)
        self._next(Asked.GROUPS_NEXT, first, GROUPS)
        if not self.answers.refused(Asked.GROUPS, *NO_DELTA):
            return
        listed = self._page(Asked.GROUP_LIST, listing_link(GROUPS), GROUPS)
        if listed and listed.rows:
            group, permission = next(iter(listed.rows)), GROUP_MEMBERS.permission
            read = partial(members_page, group)
            self._ask(Asked.MEMBERS, members_target(group), permission, read)

    def sites(self) -> None:
        self._page(Asked.ALL_SITES, listing_link(SITES), SITES)
        if self.answers.refused(Asked.ALL_SITES):
            self._page(Asked.SITE_SEARCH, search_link(SITES), SITES)

    def roles(self) -> None:
        link = listing_link(ROLE_DEFINITIONS)
        definitions = self._page(Asked.ROLE_DEFINITIONS, link, ROLE_DEFINITIONS)
        self._page(Asked.ROLE_ASSIGNMENTS, listing_link(ROLE_ASSIGNMENTS), ROLE_ASSIGNMENTS)
        if self.answers.refused(Asked.ROLE_ASSIGNMENTS, 400) and definitions and definitions.rows:
            link = assignments_link(ROLE_ASSIGNMENTS, next(iter(definitions.rows)))
            self._page(Asked.FILTERED, link, ROLE_ASSIGNMENTS)

    def _next(self, asked: Asked, page: Page | None, resource: Resource) -> Page | None:
        if page is None or page.next_link is None:
            return None
        return self._page(asked, page.next_link, resource)

    def _page(self, asked: Asked, link: str, resource: Resource) -> Page | None:
        try:
            target = target_of(link)
        except Torn as trouble:
            self.answers.by[asked] = Answer(asked, trouble=trouble, sent=False)
            return None
        answer = self._ask(asked, target, resource.permission, partial(decode_page, resource))
        return answer.page if answer else None

    def _ask(
        self,
        asked: Asked,
        target: str,
        permission: str = "",
        read: Read | None = None,
        **request: Any,
    ) -> Answer | None:
        number = self.nango.calls - self.before + 1
        if self.answers.stop is None and number > LIMIT:
            self.answers.stop = Stop.ENOUGH
        if self.answers.stop is not None:
            return None
        self.told(asked, number)
        reply, page, trouble = None, None, None
        started = time.monotonic()
        try:
            reply = self.nango.proxy(self.address, target, once=True, **request)
        except Away as away:
            away.connection = None
            raise
        except Trouble as caught:
            trouble = caught
        seconds = time.monotonic() - started
        if reply is not None:
            page, trouble = understood(reply, permission, read)
        answer = Answer(asked, permission, reply, page, trouble, seconds)
        self.answers.by[asked] = answer
        self.fruitless = self.fruitless + 1 if is_passing(trouble) else 0
        self.answers.stop = reason_to_stop(answer, self.fruitless)
        return answer


def understood(
    reply: Reply, permission: str, read: Read | None
) -> tuple[Page | None, Trouble | None]:
    """The page in an answer, or the trouble that the answer is."""
    trouble = graph_trouble(reply, time.time(), permission)
    if trouble is not None or read is None:
        return None, trouble
    try:
        return read(reply.body), None
    except Torn as torn:
        return None, torn


def members_page(group_id: str, body: bytes) -> Page:
    """The members of a group, as a page. Raises Torn where the body is none."""
    edges, link = edges_of(group_id, body)
    return Page(count=len(edges), edges=edges, next_link=link)


def organizations_of(reply: Reply) -> list[str]:
    """The ids of the tenants that an answer names, in lower case; never told to anybody."""
    document = reply.document()
    value = document.get("value") if isinstance(document, dict) else None
    rows = value if isinstance(value, list) else []
    ids = [row.get("id") for row in rows if isinstance(row, dict)]
    return [identity.lower() for identity in ids if isinstance(identity, str)]


def reason_to_stop(answer: Answer, fruitless: int) -> Stop | None:
    """Whether an answer forbids to go on: a pause that is asked for is kept."""
    trouble = answer.trouble
    if isinstance(trouble, Halt):
        return Stop.SETTINGS
    if isinstance(trouble, Broken):
        return Stop.BROKEN
    if not is_passing(trouble):
        return None
    assert trouble is not None
    named = answer.reply.retry_after(time.time()) if answer.reply else trouble.after
    if answer.status == 429 or (named or 0.0) > 0.0:
        return Stop.THROTTLED
    return Stop.SILENT if fruitless > 1 else None
