"""Memberships, as they come within a group and as a list of their own."""

from contextlib import suppress

import msgspec
from msgspec import UnsetType

from models.record import MemberReference
from models.resource import DeletedReason
from models.resources.group_members import MEMBER_TYPES
from worker.core.errors import Torn
from worker.graph.document import document_of, link_of, reason_of
from worker.graph.page import Malformed, Page
from worker.graph.salvage import member_of
from worker.nango.reply import UNREADABLE


def note_members(page: Page, group_id: str, members: list[MemberReference]) -> None:
    """What a group says of its members, in its order: the last word counts."""
    for member in members:
        pair = (group_id, member.id.lower())
        if isinstance(member.removed, UnsetType):
            page.edges_removed.pop(pair, None)
            page.edges[pair] = MEMBER_TYPES.get(member.odata_type, "other")
        else:
            page.edges.pop(pair, None)
            page.edges_removed[pair] = DeletedReason.PERMANENTLY_DELETED


def edges_of(group_id: str, body: bytes) -> tuple[dict[tuple[str, str], str], str | None]:
    """The memberships and the next link in one page of ``/groups/{id}/members``.

    Rows may carry nothing but type and id, where a permission is missing: they are pairs, and
    never say anything about the member itself.
    """
    try:
        listed = msgspec.json.decode(body, type=_Members)
        members, link = listed.value, listed.next_link
    except UNREADABLE:
        document, value = document_of(body)
        link = link_of(document, "@odata.nextLink")
        try:
            members = [member_of(text) for text in value]
        except ValueError as fault:
            why = reason_of(fault)
            raise Torn(f"a list of members cannot be read ({why})", after=60) from None
    edges = {
        (group_id, member.id.lower()): MEMBER_TYPES.get(member.odata_type, "other")
        for member in members
    }
    return edges, link


def take_members(page: Page, group_id: str, body: bytes) -> str | None:
    """Add one page of ``/groups/{id}/members``; the link to the next one.

    A member that cannot be understood is a reject of its group. Raises Torn where the body is
    not a page at all.
    """
    with suppress(Torn):
        edges, link = edges_of(group_id, body)
        page.edges |= edges
        return link
    document, value = document_of(body)
    for text in value:
        if page.is_too_odd:
            page.passed_over += 1 + value.left()
            break
        try:
            member = member_of(text)
        except ValueError as fault:
            page.rejects.append(Malformed(group_id, f"a member: {reason_of(fault)}"))
        else:
            note_members(page, group_id, [member])
    return link_of(document, "@odata.nextLink")


class _Members(msgspec.Struct):
    value: list[MemberReference]
    next_link: str | None = msgspec.field(name="@odata.nextLink", default=None)
