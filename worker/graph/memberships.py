"""Parses edges, inside their parent and as a list of its members."""

from contextlib import suppress

import msgspec
from msgspec import UnsetType

from models.edge import MEMBER_TYPES
from models.record import MemberReference
from models.resource import DeletedReason, Resource
from worker.core.errors import MalformedResponse
from worker.graph.page import Page, PageEdges, RejectedObject
from worker.graph.page_scanner import describe_error, parse_link_field, scan_page
from worker.graph.salvage import parse_member
from worker.nango.response import JSON_ERRORS


def note_members(edges: PageEdges, parent_id: str, members: list[MemberReference]) -> None:
    """Add the members of a parent's delta; the last entry of a member counts."""
    found, removed = edges.found, edges.removed
    for member in members:
        pair = (parent_id, member.id.lower())
        if isinstance(member.removed, UnsetType):
            removed.pop(pair, None)
            found[pair] = MEMBER_TYPES.get(member.odata_type, "other")
        else:
            found.pop(pair, None)
            removed[pair] = DeletedReason.PERMANENTLY_DELETED


def parse_members(parent_id: str, body: bytes) -> tuple[dict[tuple[str, str], str], str | None]:
    """Return the edges and the next link of one page of ``/groups/{id}/members`` or the like.

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
        (parent_id, member.id.lower()): MEMBER_TYPES.get(member.odata_type, "other")
        for member in members
    }
    return edges, link


def add_members(page: Page, edge: Resource, parent_id: str, body: bytes) -> str | None:
    """Add one page of the members of a parent; return the next link.

    A member that cannot be parsed becomes a reject of its parent. Raises MalformedResponse if the
    body is no page.
    """
    edges = page.get_edges(edge.name)
    with suppress(MalformedResponse):
        found, link = parse_members(parent_id, body)
        edges.found |= found
        return link
    document, value = scan_page(body)
    for text in value:
        if page.is_over_odd_limit:
            page.skipped += 1 + value.count_left()
            break
        try:
            member = parse_member(text)
        except ValueError as error:
            page.rejects.append(RejectedObject(parent_id, f"a member: {describe_error(error)}"))
        else:
            note_members(edges, parent_id, [member])
    return parse_link_field(document, "@odata.nextLink")


class _Members(msgspec.Struct):
    value: list[MemberReference]
    next_link: str | None = msgspec.field(name="@odata.nextLink", default=None)
