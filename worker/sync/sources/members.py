"""Member pages: read edges by list where a tenant has no delta.

After the list of parents come their members, 19 parents in parallel: each page is one ``$batch``,
so a page stays small however large a group is. The position in the walk is kept in the stream's
next link: the edge, the last parent that was begun, and a next link for each unfinished one. After
the last parent of one edge comes the first of the next edge.
"""

import hashlib
from collections.abc import Sequence
from typing import Final
from uuid import UUID

import msgspec

from models.resource import DeletedReason, Resource
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
"""Members on a page at which the size no longer explains a timeout for one parent."""

_LINK_PREFIX: Final = "members:"
_ZERO: Final = "00000000-0000-0000-0000-000000000000"


class MemberCursor(msgspec.Struct, frozen=True, omit_defaults=True):
    """The position of a walk through the members of all parents."""

    after: str = _ZERO
    under_way: dict[str, str] = msgspec.field(default_factory=dict)
    edge: str = ""
    """Name of the resource that is read; the first one of the stream if it is empty."""

    @property
    def free_slots(self) -> int:
        """How many further parents fit into the next page."""
        return max(0, MAX_BATCH_ITEMS - len(self.under_way))

    @property
    def is_start(self) -> bool:
        """Whether no member of this edge has been read yet."""
        return self.after == _ZERO and not self.under_way

    @property
    def link(self) -> str:
        return _LINK_PREFIX + msgspec.json.encode(self).decode()

    def choose_edge(self, edges: Sequence[Resource]) -> Resource:
        """Return which of a stream's edges is read."""
        return next((one for one in edges if one.name == self.edge), edges[0])


FIRST_MEMBER_LINK: Final = MemberCursor().link
"""Follows the last page of the list of parents, which has to be committed first."""


def parse_member_cursor(link: str | None) -> MemberCursor | None:
    """Return the member cursor in a stream's next link, or None."""
    if link is None or not link.startswith(_LINK_PREFIX):
        return None
    return msgspec.json.decode(link.removeprefix(_LINK_PREFIX), type=MemberCursor)


def build_members_part(edge: Resource, parent: str) -> Part:
    """Return the part for the members of one parent."""
    return Part(edge.name, PartKind.MEMBERS, parent)


def remove_parent(link: str, parent: str) -> str:
    """Return the member cursor in ``link`` without a parent that is deleted."""
    place = parse_member_cursor(link)
    if place is None:
        return link
    after = str(UUID(int=UUID(parent).int - 1)) if place.after == parent else place.after
    left = {one: link for one, link in place.under_way.items() if one != parent}
    return msgspec.structs.replace(place, after=after, under_way=left).link


def shrink_member_pages(link: str, edges: Sequence[Resource], top: int) -> str:
    """Return the cursor for a smaller page size: parents under way are read from the start."""
    place = parse_member_cursor(link)
    if place is None:
        return link
    edge = place.choose_edge(edges)
    starts = {
        one: f"{GRAPH_HOST}{build_members_path(edge, one, top=top)}" for one in place.under_way
    }
    return msgspec.structs.replace(place, under_way=starts).link


def fetch_member_page(
    client: GraphClient,
    edges: Sequence[Resource],
    place: MemberCursor,
    parents: Sequence[str],
    *,
    top: int | None = None,
) -> Page:
    """Return the next members of the parents under way, and the first of the given parents.

    ``edges`` are those of the stream, in the order in which they are read. A parent deleted
    meanwhile is recorded as not seen, although the list showed it: the sweep reads it by id. A
    parent whose members Graph refuses becomes an unanswered part. Raises the error of a response
    that concerns all parents.
    """
    edge = place.choose_edge(edges)
    targets = {one: path_from_link(link) for one, link in place.under_way.items()}
    targets |= {one: build_members_path(edge, one, top=top) for one in parents}
    page, under_way = Page(), {}
    errors: dict[str, MirrorError] = {}
    for one, response in fetch_each(client, targets).items():
        try:
            link = _add_members(page, edge, one, response, place.under_way.get(one))
        except (ResourceRefused, RetryLater, ConnectionBroken) as error:
            if error.needs_smaller_request and (top or MEMBERS_PER_PAGE) > MIN_MEMBERS_PER_PAGE:
                raise  # smaller pages are tried before a parent is recorded as unanswered
            errors[one] = error
            continue
        if link is not None:
            under_way[one] = link
        elif one not in page.removed:
            page.answered_parts.append(build_members_part(edge, one))
    apart = isolate_walk_errors(errors, len(targets), is_first_page=place.is_start)
    page.unanswered_parts = {build_members_part(edge, one): why for one, why in apart.items()}
    if found := page.get_edges(edge.name).found:
        pairs = repr(sorted(found)).encode()
        page.digest = hashlib.blake2b(pairs, digest_size=16).hexdigest()
    if under_way or len(parents) == place.free_slots:
        after = parents[-1] if parents else place.after
        page.next_link = MemberCursor(after, under_way, place.edge).link
    else:
        page.next_link = _find_next_start(edges, edge)
    return page


def _find_next_start(edges: Sequence[Resource], edge: Resource) -> str | None:
    """Return the link at which the members of the edge after this one start, if there is one."""
    following = edges[edges.index(edge) + 1 :]
    return MemberCursor(edge=following[0].name).link if following else None


def _add_members(
    page: Page, edge: Resource, parent: str, response: ApiResponse, before: str | None
) -> str | None:
    """Add a page of a parent's members, requested by the link ``before``; return its next link."""
    if response.status == 404 or (response.status == 410 and before is None):
        page.removed[parent] = DeletedReason.NOT_SEEN
        return None
    error = error_from_response(response, edge.permission)
    if error is not None:
        raise error
    link = add_members(page, edge, parent, response.body)
    if link is not None:
        path_from_link(link)
    if link is not None and link == before:
        raise MalformedResponse("Graph's next links form a cycle", after=600)
    return link
