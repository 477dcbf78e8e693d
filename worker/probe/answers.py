"""The calls of a probe and their responses."""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from worker.core.errors import (
    MalformedResponse,
    MirrorError,
    NotLicensed,
    ResourceRefused,
    RetryLater,
)
from worker.graph.errors import choose_error_code, list_error_codes
from worker.graph.page import Page
from worker.nango.response import ApiResponse
from worker.probe.further import list_further_requests
from worker.probe.scope import ProbeScope

MAX_CALLS: Final = 16
"""If ``$batch`` works."""
MAX_SINGLE_CALLS: Final = MAX_CALLS - 1 + len(list_further_requests(ProbeScope()))
"""If it does not: each item of the last ``$batch`` is a call then."""

_CODE = re.compile(r"[A-Za-z0-9_.]{1,64}")


class ProbeCall(StrEnum):
    """The calls, in order. No tenant gets all of them, as some are fallbacks."""

    ORGANIZATION = "organization"
    BATCH = "$batch of three"
    USERS = "users"
    USERS_NEXT = "users, next page"
    TOKEN = "users/delta from now"  # noqa: S105 - not a password
    TOKEN_NEXT = "users/delta from now, next page"  # noqa: S105
    DELTA = "users/delta, delta link"
    GROUPS = "groups/delta"
    GROUPS_NEXT = "groups/delta, next page"
    GROUP_LIST = "groups"
    MEMBERS = "members of one group"
    ALL_SITES = "sites/getAllSites"
    SITE_SEARCH = "sites?search=*"
    ROLE_DEFINITIONS = "roleDefinitions"
    ROLE_ASSIGNMENTS = "roleAssignments"
    FILTERED = "roleAssignments of one role"
    FURTHER = "$batch of the further resources"
    OTHER_ORGANIZATION = "organization of the other connection"
    CROSS_TENANT_LINK = "a link, for the other connection"


class StopReason(StrEnum):
    """Why a probe stopped early."""

    SETTINGS = "Nango refuses our key, address or plan"
    BROKEN = "the connection cannot be used"
    OTHER_TENANT = "it is another tenant than before"
    THROTTLED = "we were asked to wait"
    SILENT = "two calls running got no useful answer"
    ENOUGH = f"{MAX_SINGLE_CALLS} calls are enough"


@dataclass(frozen=True)
class ProbeAnswer:
    """One request and its response, of which only numbers and our own words are ever shown."""

    call: str
    permission: str = ""
    response: ApiResponse | None = None
    page: Page | None = None
    error: MirrorError | None = None
    seconds: float = 0.0
    was_sent: bool = True

    @property
    def is_success(self) -> bool:
        return self.error is None

    @property
    def is_not_licensed(self) -> bool:
        return isinstance(self.error, NotLicensed)

    @property
    def status(self) -> int | None:
        """Graph's status; None if Graph did not answer."""
        return self.response.status if self.response else None

    @property
    def code(self) -> str:
        """Graph's outermost error code that says something, if it has the form of one."""
        if self.response is None or self.response.is_success:
            return ""
        code = choose_error_code(list_error_codes(self.response))
        return code if _CODE.fullmatch(code) else ""


@dataclass
class ProbeAnswers:
    """All responses of a probe."""

    by_call: dict[str, ProbeAnswer] = field(default_factory=dict)
    items: dict[str, ProbeAnswer] = field(default_factory=dict)
    """The answers about the further resources, which were items of one call if ``$batch`` works."""
    organizations: list[str] = field(default_factory=list)
    known_tenant: str | None = None
    scope: ProbeScope = field(default_factory=ProbeScope)
    stop_reason: StopReason | None = None
    other_organizations: list[str] | None = None
    """The organizations of the other connection; None if none was named."""
    cross_tenant_statuses: list[int | None] = field(default_factory=list)
    """Statuses of links sent through the other connection; None if Graph did not answer."""

    def get(self, asked: str) -> ProbeAnswer | None:
        """Return the answer to a call, or to an item about a further resource."""
        return self.by_call.get(asked) or self.items.get(asked)

    @property
    def requests(self) -> list[ProbeAnswer]:
        """The answers to all requests: the calls, and the items about further resources."""
        return list((self.by_call | self.items).values())

    def get_page(self, asked: str) -> Page | None:
        answer = self.get(asked)
        return answer.page if answer else None

    def is_refused(self, asked: str, *statuses: int) -> bool:
        """Whether Graph refused a call permanently, with one of ``statuses`` if any are given.

        False if the tenant lacks the licence: then no other way of reading it is licensed, either.
        """
        answer = self.get(asked)
        if answer is None or not isinstance(answer.error, ResourceRefused):
            return False
        if answer.is_not_licensed:
            return False
        return not statuses or answer.error.status in statuses


def is_transient(error: MirrorError | None) -> bool:
    return isinstance(error, RetryLater) and not isinstance(error, MalformedResponse)


def parse_batch_items(response: ApiResponse) -> list[dict[str, Any]]:
    """Return the items of a ``$batch`` response."""
    document = response.parse_json()
    responses = document.get("responses") if isinstance(document, dict) else None
    items = responses if isinstance(responses, list) else []
    return [item for item in items if isinstance(item, dict)]
