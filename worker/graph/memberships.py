"""Parses memberships, inside a group and as a list of members."""

from contextlib import suppress

import msgspec
from msgspec import UnsetType

from models.edge import MEMBER_TYPES
from models.record import MemberReference
from models.resource import DeletedReason
from worker.core.errors import MalformedResponse
from worker.graph.page import Page, RejectedObject
from worker.graph.page_scanner import describe_error, parse_link_field, scan_page
from worker.graph.salvage import parse_member
from worker.nango.response import JSON_ERRORS


def note_members(page: Page, group_id: str, members: list[MemberReference]) -> None:
    """Add the members of a group's delta; the last entry of a member counts."""
    for member in members:
        pair = (group_id, member.id.lower())
        if isinstance(member.removed, UnsetType):
            page.removed_edges.pop(pair, None)
            page.edges[pair] = MEMBER_TYPES.get(member.odata_type, "other")
        else:
            page.edges.pop(pair, None)
            page.removed_edges[pair] = DeletedReason.PERMANENTLY_DELETED


def parse_members(group_id: str, body: bytes) -> tuple[dict[tuple[str, str], str], str | None]:
    """Return the memberships and the next link of one page of ``/groups/{id}/members``.

    Rows may carry only type and id if a permission is missing. They are used as pairs of ids, never
    as data of the member.
    """
    try:
        listed = msgspec.json.decode(body, type=_Members)
        members, link = listed.value, listed.next_link
    except JSON_ERRORS:
        document, value = scan_page(body)
        link = parse_link_field(document, "@odata.nextLink")
        try:
            members = [parse_member(text) for text in value]
        except ValueError as error:
            why = describe_error(error)
            raise MalformedResponse(f"a list of members cannot be read ({why})", after=60) from None
    edges = {
        (group_id, member.id.lower()): MEMBER_TYPES.get(member.odata_type, "other")
        for member in members
    }
    return edges, link


def add_members(page: Page, group_id: str, body: bytes) -> str | None:
    """Add one page of ``/groups/{id}/members``; return the next link.

    A member that cannot be parsed becomes a reject of its group. Raises MalformedResponse if the
    body is no page.
    """
    with suppress(MalformedResponse):
        edges, link = parse_members(group_id, body)
        page.edges |= edges
        return link
    document, value = scan_page(body)
    for text in value:
        if page.is_over_odd_limit:
            page.skipped += 1 + value.count_left()
            break
        try:
            member = parse_member(text)
        except ValueError as error:
            page.rejects.append(RejectedObject(group_id, f"a member: {describe_error(error)}"))
        else:
            note_members(page, group_id, [member])
    return parse_link_field(document, "@odata.nextLink")


class _Members(msgspec.Struct):
    value: list[MemberReference]
    next_link: str | None = msgspec.field(name="@odata.nextLink", default=None)
