"""Fetch the member lists of groups."""

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from models.resources.group_members import GROUP_MEMBERS
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
"""Pages of a list running that bring nothing new: then its next links go in circles."""


SelectMembers = Callable[[str, Mapping[Pair, str]], dict[str, str]]
"""The memberships that are wanted, edge key to member type, in a page of one list."""


class MemberListReader:
    """Reads several lists side by side, page by page; one that fails costs only itself.

    Of a list only the memberships that ``named`` picks out are kept, and 16 bytes for each page.
    """

    def __init__(self, client: GraphClient, named: SelectMembers) -> None:
        self._client = client
        self._select = named
        self._page_digests: dict[str, set[bytes]] = {}
        self.edges: dict[str, str] = {}
        self.gone_owners: set[str] = set()
        self.unknown: dict[str, NoAnswer] = {}

    def read(self, targets: dict[str, str]) -> None:
        idle = dict.fromkeys(targets, 0)
        while targets:
            upcoming, troubles = {}, {}
            for one, reply in fetch_each(self._client, targets).items():
                try:
                    link, is_new = self._add_page(one, reply)
                    idle[one] = count_idle_pages(idle[one], 0, int(is_new))
                except MirrorError as trouble:
                    troubles[one] = trouble
                    continue
                if link is not None:
                    upcoming[one] = link
            self.unknown |= isolate_errors(troubles, len(targets))
            targets = upcoming

    def _add_page(self, one: str, response: ApiResponse) -> tuple[str | None, bool]:
        """The next target, and whether the page is another than all before it."""
        if response.status in GONE_STATUSES:
            self.gone_owners.add(one)
            return None, True
        trouble = error_from_response(response, GROUP_MEMBERS.permission)
        if trouble is not None:
            raise trouble
        edges, link = parse_members(one, response.body)
        self.edges |= self._select(one, edges)
        if link is None:
            self._page_digests.pop(one, None)
            return None, True
        return path_from_link(link), self._is_new_page(one, edges)

    def _is_new_page(self, one: str, edges: Collection[Pair]) -> bool:
        """An empty page never is; a list that goes in circles shows the same pages again."""
        pages = self._page_digests.setdefault(one, set())
        digest = hashlib.blake2b(repr(sorted(edges)).encode(), digest_size=16).digest()
        is_new = bool(edges) and digest not in pages
        pages.add(digest)
        return is_new


def find_members(
    client: GraphClient, groups: Iterable[str], wanted: Collection[str]
) -> tuple[set[str], dict[str, NoAnswer]]:
    """Those of the ``wanted`` memberships, by edge key, that the lists of the groups show.

    A group that is gone has none. The second value names groups of which Graph does not say.
    """

    def named(_: str, edges: Mapping[Pair, str]) -> dict[str, str]:
        keys = {render_edge_key(pair): kind for pair, kind in edges.items()}
        return {key: kind for key, kind in keys.items() if key in wanted}

    lists = MemberListReader(client, named)
    lists.read({group: build_members_path(group) for group in groups})
    return set(lists.edges), lists.unknown


def count_idle_pages(idle: int, before: int, now: int) -> int:
    """How many pages running have not made a list grow, counting the latest one.

    Single pages may be empty. Raises MalformedResponse where so many are that the list will never
    end.
    """
    idle = 0 if now > before else idle + 1
    if idle > MAX_IDLE_PAGES:
        raise MalformedResponse(
            "Graph's next links go in circles", resource="group_members", after=600
        )
    return idle


@dataclass
class MemberGroups:
    """The groups that some members are directly in: edge key to member type.

    Of ``others`` only the groups' own lists tell, as they are no users or groups, or are gone;
    of the ``unknown`` Graph does not say.
    """

    edges: dict[str, str]
    unlisted_members: set[str]
    unknown: dict[str, NoAnswer]


def fetch_member_groups(client: GraphClient, members: Mapping[str, str]) -> MemberGroups:
    """The groups that each member (id to member type) is directly in."""
    others = {one for one, kind in members.items() if kind not in ("user", "group")}

    def named(one: str, edges: Mapping[Pair, str]) -> dict[str, str]:
        groups = [group for (_, group), kind in edges.items() if kind == "group"]
        return {render_edge_key((group, one)): members[one] for group in groups}

    lists = MemberListReader(client, named)
    lists.read(
        {
            one: build_member_of_path(f"{kind}s", one)
            for one, kind in members.items()
            if one not in others
        }
    )
    return MemberGroups(lists.edges, others | lists.gone_owners, lists.unknown)
