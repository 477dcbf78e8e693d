"""Whose tenant answers: the organization that goes along with every request, judged."""

import time
from typing import Final

import msgspec

from models.record import Guid
from worker.core.errors import Broken, Later, Refused, Restart, Torn
from worker.graph.document import document_of
from worker.graph.fragments import members_of
from worker.graph.salvage import Faults, value_of
from worker.graph.verdict import graph_trouble
from worker.nango.reply import UNREADABLE, Reply

PERMISSION: Final = "Organization.Read.All"


class Organization(msgspec.Struct):
    """A tenant, as Graph names it."""

    id: Guid
    display_name: str | None = None

    @property
    def tenant(self) -> str:
        return self.id.lower()


def judged(reply: Reply, expected: str | None) -> Organization:
    """The organization in an answer; ``expected`` is the tenant that it must be, if one is known.

    Raises Broken (another tenant, no access), Later, Torn.
    """
    found = _read(reply)
    if expected is not None and found.tenant != expected:
        raise Broken(
            f"it now belongs to another Microsoft tenant ({found.tenant}) than before "
            f"({expected}); nothing of it was used. Delete it in Nango and connect it again"
        )
    return found


def _read(reply: Reply) -> Organization:
    trouble = graph_trouble(reply, time.time(), PERMISSION)
    if isinstance(trouble, Refused):
        raise Broken(f"whose tenant it is cannot be read: {trouble.message}")
    if isinstance(trouble, Later):
        trouble.status = 0  # it says nothing about the requests that went along
    if isinstance(trouble, Restart):
        raise Torn(f"Graph answers {reply.status} for the organization", after=300)
    if trouble is not None:
        raise trouble
    try:
        listed = [_organization(text) for text in document_of(reply.body)[1]]
    except (Torn, KeyError, *UNREADABLE, ValueError):
        raise Torn("the organization cannot be read", after=300) from None
    if len(listed) != 1:
        raise Torn(f"Graph names {len(listed)} organizations instead of one", after=300)
    return listed[0]


def _organization(text: str) -> Organization:
    """A name that is odd costs itself alone."""
    sent = members_of(text)
    identity = msgspec.json.decode(sent["id"].encode(), type=Guid)
    return Organization(identity, value_of(str | None, sent.get("displayName", "null"), Faults()))
