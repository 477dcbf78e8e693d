"""The calls of a probe and what came back, before anybody judges it."""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from worker.core.errors import Later, Refused, Torn, Trouble
from worker.graph.page import Page
from worker.graph.verdict import error_codes
from worker.nango.reply import Reply

LIMIT: Final = 15

_CODE = re.compile(r"[A-Za-z0-9_.]{1,64}")


class Asked(StrEnum):
    """The calls, in their order. No tenant gets all: some stand in for others."""

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
    OTHER_ORGANIZATION = "organization of the other connection"
    CROSSED = "a link, for the other connection"


class Stop(StrEnum):
    """Why no more was asked."""

    SETTINGS = "Nango refuses our key, address or plan"
    BROKEN = "the connection cannot be used"
    OTHER_TENANT = "it is another tenant than before"
    THROTTLED = "we were asked to wait"
    SILENT = "two calls running got no useful answer"
    ENOUGH = f"{LIMIT} calls are enough"


@dataclass(frozen=True)
class Answer:
    """One request and what came back; of it, only numbers and our own words are ever told."""

    asked: Asked
    permission: str = ""
    reply: Reply | None = None
    page: Page | None = None
    trouble: Trouble | None = None
    seconds: float = 0.0
    sent: bool = True

    @property
    def ok(self) -> bool:
        return self.trouble is None

    @property
    def status(self) -> int | None:
        """Graph's status; None where nothing of Graph's came back."""
        return self.reply.status if self.reply else None

    @property
    def code(self) -> str:
        """Graph's outermost error code, where it has the form of one."""
        codes = error_codes(self.reply) if self.reply and not self.reply.ok else []
        return codes[0] if codes and _CODE.fullmatch(codes[0]) else ""


@dataclass
class Answers:
    """Everything that came back."""

    by: dict[Asked, Answer] = field(default_factory=dict)
    organizations: list[str] = field(default_factory=list)
    known_tenant: str | None = None
    stop: Stop | None = None
    others: list[str] | None = None
    """The organizations of the other connection; None where none was named."""
    crossed: list[int | None] = field(default_factory=list)
    """Statuses of links that were sent for the other connection; None: no answer of Graph's."""

    def page(self, asked: Asked) -> Page | None:
        answer = self.by.get(asked)
        return answer.page if answer else None

    def refused(self, asked: Asked, *statuses: int) -> bool:
        """Whether Graph refused it for good, with one of the statuses where some are named."""
        answer = self.by.get(asked)
        if answer is None or not isinstance(answer.trouble, Refused):
            return False
        return not statuses or answer.trouble.status in statuses


def is_passing(trouble: Trouble | None) -> bool:
    return isinstance(trouble, Later) and not isinstance(trouble, Torn)


def items_of(reply: Reply) -> list[dict[str, Any]]:
    """The answers inside a ``$batch``."""
    document = reply.document()
    responses = document.get("responses") if isinstance(document, dict) else None
    items = responses if isinstance(responses, list) else []
    return [item for item in items if isinstance(item, dict)]
