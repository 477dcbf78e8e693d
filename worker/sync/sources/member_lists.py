"""Fetch the member lists of parents, and the parents of members."""

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from models.resource import Resource
from models.resources import RESOURCES, list_member_resources
from models.unresolved import NoAnswer
from worker.core.errors import MalformedResponse, MirrorError
from worker.graph.client import GraphClient
from worker.graph.links import path_from_link
from worker.graph.memberships import parse_members
from worker.graph.urls import build_member_of_path, build_members_path
from worker.nango.response import ApiResponse
from worker.store.mirror.edges import Pair, render_edge_key
from worker.sync.sources.by_id import GONE_STATUSES
from worker.sync.sources.partial_failures import error_from_response, fetch_each, isolate_errors

MAX_IDLE_PAGES: Final = 50
"""Consecutive pages of a list without new entries after which its next links form a loop."""


SelectMembers = Callable[[str, Mapping[Pair, str]], dict[str, str]]
"""Return the wanted edges, by key with the member's type, of a page of one list."""


class MemberListReader:
    """Reads several lists in parallel, page by page; a failure affects only its own list.

    It keeps the edges that ``named`` selects, and 16 bytes for each page.
    """

    def __init__(self, client: GraphClient, edge: Resource, named: SelectMembers) -> None:
        self._client = client
        self._edge = edge
        self._select = named
        self._page_digests: dict[str, set[bytes]] = {}
        self.edges: dict[str, str] = {}
        self.gone_owners: set[str] = set()
        self.unknown: dict[str, NoAnswer] = {}

    def read(self, targets: dict[str, str]) -> None:
        idle = dict.fromkeys(targets, 0)
        while targets:
            upcoming, errors = {}, {}
            for one, response in fetch_each(self._client, targets).items():
                try:
                    link, is_new = self._add_page(one, response)
                    idle[one] = count_idle_pages(self._edge, idle[one], 0, int(is_new))
                except MirrorError as error:
                    errors[one] = error
                    continue
                if link is not None:
                    upcoming[one] = link
            self.unknown |= isolate_errors(errors, len(targets))
            targets = upcoming

    def _add_page(self, one: str, response: ApiResponse) -> tuple[str | None, bool]:
        """Add a page; return the next path, and whether the page is new in its list."""
        if response.status in GONE_STATUSES:
            self.gone_owners.add(one)
            return None, True
        error = error_from_response(response, self._edge.permission)
        if error is not None:
            raise error
        edges, link = parse_members(one, response.body)
        self.edges |= self._select(one, edges)
        if link is None:
            self._page_digests.pop(one, None)
            return None, True
        return path_from_link(link), self._is_new_page(one, edges)

    def _is_new_page(self, one: str, edges: Collection[Pair]) -> bool:
        """Whether a page is not empty and differs from all before it, as in a loop none does."""
        pages = self._page_digests.setdefault(one, set())
        digest = hashlib.blake2b(repr(sorted(edges)).encode(), digest_size=16).digest()
        is_new = bool(edges) and digest not in pages
        pages.add(digest)
        return is_new


def find_members(
    client: GraphClient, edge: Resource, parents: Iterable[str], wanted: Collection[str]
) -> tuple[set[str], dict[str, NoAnswer]]:
    """Return which of the ``wanted`` edges, by key, the lists of their parents show.

    A deleted parent has none. The second value names the parents that Graph gave no answer for.
    """

    def named(_: str, edges: Mapping[Pair, str]) -> dict[str, str]:
        keys = {render_edge_key(pair): kind for pair, kind in edges.items()}
        return {key: kind for key, kind in keys.items() if key in wanted}

    lists = MemberListReader(client, edge, named)
    lists.read({one: build_members_path(edge, one) for one in parents})
    return set(lists.edges), lists.unknown


def count_idle_pages(edge: Resource, idle: int, before: int, now: int) -> int:
    """Return how many consecutive pages have not made a list grow, the latest included.

    Single pages may be empty. Raises MalformedResponse after so many that the list will never end.
    """
    idle = 0 if now > before else idle + 1
    if idle > MAX_IDLE_PAGES:
        raise MalformedResponse("Graph's next links form a cycle", resource=edge.name, after=600)
    return idle


@dataclass
class MemberParents:
    """The parents that some members are directly in: edge key to member type.

    For ``unlisted_members``, only the parents' own lists show edges, as Graph has no list by
    member, or they are deleted; for ``unknown``, Graph gave no answer.
    """

    edges: dict[str, str]
    unlisted_members: set[str]
    unknown: dict[str, NoAnswer]


def fetch_member_parents(
    client: GraphClient, edge: Resource, members: Mapping[str, str]
) -> MemberParents:
    """Return the parents that each member (id to member type) is directly in."""
    by_type = {one.member_type: one for one in list_member_resources(edge)}
    parent_type = RESOURCES[edge.parent].member_type
    listed = {one: by_type[kind] for one, kind in members.items() if kind in by_type}
    if edge.edge is None or not edge.edge.member_of:
        listed = {}

    def named(one: str, edges: Mapping[Pair, str]) -> dict[str, str]:
        parents = [parent for (_, parent), kind in edges.items() if kind == parent_type]
        return {render_edge_key((parent, one)): members[one] for parent in parents}

    lists = MemberListReader(client, edge, named)
    lists.read({one: build_member_of_path(edge, of, one) for one, of in listed.items()})
    others = members.keys() - listed.keys()
    return MemberParents(lists.edges, others | lists.gone_owners, lists.unknown)
