"""Member pages: read memberships by list where a tenant has no delta.

After the list of groups come their members, 19 groups in parallel: each page is one ``$batch``, so
a page stays small however large a group is. The position in the walk is kept in the stream's next
link: the last group that was begun, and a next link for each unfinished one.
"""

import hashlib
from collections.abc import Sequence
from typing import Final
from uuid import UUID

import msgspec

from models.resource import DeletedReason
from models.resources.group_members import GROUP_MEMBERS
from models.resources.groups import GROUPS
from models.unresolved import Part, PartKind
from worker.core.errors import (
    ConnectionBroken,
    MalformedResponse,
    MirrorError,
    ResourceRefused,
    RetryLater,
)
from worker.graph.client import MAX_BATCH_ITEMS, GraphClient
from worker.graph.links import path_from_link
from worker.graph.memberships import add_members
from worker.graph.page import Page
from worker.graph.urls import GRAPH_HOST, build_members_path
from worker.nango.response import ApiResponse
from worker.sync.sources.partial_failures import (
    error_from_response,
    fetch_each,
    isolate_walk_errors,
)

MEMBERS_PER_PAGE: Final = 999
"""Members on a page."""

MIN_MEMBERS_PER_PAGE: Final = 100
"""Members on a page at which the size no longer explains a timeout for one group."""

_LINK_PREFIX: Final = "members:"


class MemberCursor(msgspec.Struct, frozen=True):
    """The position of a walk through the members of all groups."""

    after: str = "00000000-0000-0000-0000-000000000000"
    under_way: dict[str, str] = msgspec.field(default_factory=dict)

    @property
    def free_slots(self) -> int:
        """How many further groups fit into the next page."""
        return max(0, MAX_BATCH_ITEMS - len(self.under_way))

    @property
    def link(self) -> str:
        return _LINK_PREFIX + msgspec.json.encode(self).decode()


FIRST_MEMBER_LINK: Final = MemberCursor().link
"""Follows the last page of the list of groups, which has to be committed first."""


def parse_member_cursor(link: str | None) -> MemberCursor | None:
    """Return the member cursor in a stream's next link, or None."""
    if link is None or not link.startswith(_LINK_PREFIX):
        return None
    return msgspec.json.decode(link.removeprefix(_LINK_PREFIX), type=MemberCursor)


def build_members_part(group: str) -> Part:
    """Return the part for the members of a group."""
    return Part(GROUPS.name, PartKind.MEMBERS, group)


def remove_group(link: str, group: str) -> str:
    """Return the member cursor in ``link`` without a group that is deleted."""
    place = parse_member_cursor(link)
    if place is None:
        return link
    after = str(UUID(int=UUID(group).int - 1)) if place.after == group else place.after
    left = {one: link for one, link in place.under_way.items() if one != group}
    return MemberCursor(after, left).link


def shrink_member_pages(link: str, top: int) -> str:
    """Return the cursor for a smaller page size: groups under way are read again from the start."""
    place = parse_member_cursor(link)
    if place is None:
        return link
    starts = {
        group: f"{GRAPH_HOST}{build_members_path(group, top=top)}" for group in place.under_way
    }
    return MemberCursor(place.after, starts).link


def fetch_member_page(
    client: GraphClient, place: MemberCursor, groups: Sequence[str], *, top: int | None = None
) -> Page:
    """Return the next members of the groups under way, and the first of the given groups.

    A group deleted meanwhile is recorded as not seen, although the list showed it: the sweep reads
    it by id. A group whose members Graph refuses becomes an unanswered part. Raises the error of a
    response that concerns all groups.
    """
    targets = {group: path_from_link(link) for group, link in place.under_way.items()}
    targets |= {group: build_members_path(group, top=top) for group in groups}
    page, under_way = Page(), {}
    errors: dict[str, MirrorError] = {}
    for group, response in fetch_each(client, targets).items():
        try:
            link = _add_members(page, group, response, place.under_way.get(group))
        except (ResourceRefused, RetryLater, ConnectionBroken) as error:
            if error.needs_smaller_request and (top or MEMBERS_PER_PAGE) > MIN_MEMBERS_PER_PAGE:
                raise  # smaller pages are tried before a group is recorded as unanswered
            errors[group] = error
            continue
        if link is not None:
            under_way[group] = link
        elif group not in page.removed:
            page.answered_parts.append(build_members_part(group))
    apart = isolate_walk_errors(errors, len(targets), is_first_page=place == MemberCursor())
    page.unanswered_parts = {build_members_part(group): why for group, why in apart.items()}
    if page.edges:
        pairs = repr(sorted(page.edges)).encode()
        page.digest = hashlib.blake2b(pairs, digest_size=16).hexdigest()
    if under_way or len(groups) == place.free_slots:
        page.next_link = MemberCursor(groups[-1] if groups else place.after, under_way).link
    return page


def _add_members(page: Page, group: str, response: ApiResponse, before: str | None) -> str | None:
    """Add a page of a group's members, requested by the link ``before``; return its next link."""
    if response.status == 404 or (response.status == 410 and before is None):
        page.removed[group] = DeletedReason.NOT_SEEN
        return None
    error = error_from_response(response, GROUP_MEMBERS.permission)
    if error is not None:
        raise error
    link = add_members(page, group, response.body)
    if link is not None:
        path_from_link(link)
    if link is not None and link == before:
        raise MalformedResponse("Graph's next links form a cycle", after=600)
    return link
