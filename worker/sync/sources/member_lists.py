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
"""Consecutive pages of a list without new entries after which its next links form a loop."""


SelectMembers = Callable[[str, Mapping[Pair, str]], dict[str, str]]
"""Return the wanted memberships, edge key to member type, of a page of one list."""


class MemberListReader:
    """Reads several lists in parallel, page by page; a failure affects only its own list.

    It keeps the memberships that ``named`` selects, and 16 bytes for each page.
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
            upcoming, errors = {}, {}
            for one, response in fetch_each(self._client, targets).items():
                try:
                    link, is_new = self._add_page(one, response)
                    idle[one] = count_idle_pages(idle[one], 0, int(is_new))
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
        error = error_from_response(response, GROUP_MEMBERS.permission)
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
    client: GraphClient, groups: Iterable[str], wanted: Collection[str]
) -> tuple[set[str], dict[str, NoAnswer]]:
    """Return which of the ``wanted`` memberships, by edge key, the groups' lists show.

    A deleted group has none. The second value names the groups that Graph gave no answer for.
    """

    def named(_: str, edges: Mapping[Pair, str]) -> dict[str, str]:
        keys = {render_edge_key(pair): kind for pair, kind in edges.items()}
        return {key: kind for key, kind in keys.items() if key in wanted}

    lists = MemberListReader(client, named)
    lists.read({group: build_members_path(group) for group in groups})
    return set(lists.edges), lists.unknown


def count_idle_pages(idle: int, before: int, now: int) -> int:
    """Return how many consecutive pages have not made a list grow, the latest included.

    Single pages may be empty. Raises MalformedResponse after so many that the list will never end.
    """
    idle = 0 if now > before else idle + 1
    if idle > MAX_IDLE_PAGES:
        raise MalformedResponse(
            "Graph's next links form a cycle", resource="group_members", after=600
        )
    return idle


@dataclass
class MemberGroups:
    """The groups that some members are directly in: edge key to member type.

    For ``unlisted_members``, only the groups' own lists show memberships, as they are no users or
    groups, or are deleted; for ``unknown``, Graph gave no answer.
    """

    edges: dict[str, str]
    unlisted_members: set[str]
    unknown: dict[str, NoAnswer]


def fetch_member_groups(client: GraphClient, members: Mapping[str, str]) -> MemberGroups:
    """Return the groups that each member (id to member type) is directly in."""
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
