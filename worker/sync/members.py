"""Member pages: how memberships are read where a tenant has no delta.

After the list of groups come their members, 19 groups side by side: each page is one
``$batch``, so a page stays small however large a group is. The place in the walk is kept in the
stream's next link: the last group that was begun, and a next link for each that is not done.
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
from worker.core.errors import Broken, Later, Refused, Torn, Trouble
from worker.graph.batch import LIMIT, Batcher
from worker.graph.links import target_of
from worker.graph.memberships import take_members
from worker.graph.page import Page
from worker.graph.targets import HOST, members_target
from worker.nango.reply import Reply
from worker.sync.parts import ask_each, parts_of_a_walk, trouble_of

USUAL: Final = 999
"""Members on a page."""

SMALL: Final = 100
"""Members on a page from which on it is not the size, if Graph does not answer one group."""

_MARK: Final = "members:"


class Place(msgspec.Struct, frozen=True):
    """Where a walk through the members of all groups stands."""

    after: str = "00000000-0000-0000-0000-000000000000"
    under_way: dict[str, str] = msgspec.field(default_factory=dict)

    @property
    def room(self) -> int:
        """How many further groups go into the next page."""
        return max(0, LIMIT - len(self.under_way))

    @property
    def link(self) -> str:
        return _MARK + msgspec.json.encode(self).decode()


FIRST: Final = Place().link
"""Follows the last page of the list of groups: that has to be committed first."""


def place_of(link: str | None) -> Place | None:
    """The place in a stream's next link, if it is one."""
    if link is None or not link.startswith(_MARK):
        return None
    return msgspec.json.decode(link.removeprefix(_MARK), type=Place)


def members_of(group: str) -> Part:
    """The members of a group, as a part."""
    return Part(GROUPS.name, PartKind.MEMBERS, group)


def without_group(link: str, group: str) -> str:
    """A place that stands at a group, or has it under way, for when that group is gone."""
    place = place_of(link)
    if place is None:
        return link
    after = str(UUID(int=UUID(group).int - 1)) if place.after == group else place.after
    left = {one: link for one, link in place.under_way.items() if one != group}
    return Place(after, left).link


def smaller_pages(link: str, top: int) -> str:
    """The same place with a smaller page size: groups under way are read again from the start."""
    place = place_of(link)
    if place is None:
        return link
    starts = {group: f"{HOST}{members_target(group, top=top)}" for group in place.under_way}
    return Place(place.after, starts).link


def read_member_page(
    batcher: Batcher, place: Place, groups: Sequence[str], *, top: int | None = None
) -> Page:
    """The next members of the groups under way, and the first of the given ones behind them.

    A group that is gone meanwhile is noted as not seen, whatever the list said of it: the sweep
    asks for it again. One whose members Graph refuses is set apart. Raises what an answer means
    where it is about all groups.
    """
    targets = {group: target_of(link) for group, link in place.under_way.items()}
    targets |= {group: members_target(group, top=top) for group in groups}
    page, under_way = Page(), {}
    troubles: dict[str, Trouble] = {}
    for group, reply in ask_each(batcher, targets).items():
        try:
            link = _take(page, group, reply, place.under_way.get(group))
        except (Refused, Later, Broken) as trouble:
            if trouble.slow and (top or USUAL) > SMALL:
                raise  # smaller pages are asked for before a group is set apart
            troubles[group] = trouble
            continue
        if link is not None:
            under_way[group] = link
        elif group not in page.removed:
            page.answered.append(members_of(group))
    apart = parts_of_a_walk(troubles, len(targets), first=place == Place())
    page.apart = {members_of(group): why for group, why in apart.items()}
    if page.edges:
        told = repr(sorted(page.edges)).encode()
        page.digest = hashlib.blake2b(told, digest_size=16).hexdigest()
    if under_way or len(groups) == place.room:
        page.next_link = Place(groups[-1] if groups else place.after, under_way).link
    return page


def _take(page: Page, group: str, reply: Reply, before: str | None) -> str | None:
    """Add a page of a group's members, asked for by the link ``before``; the link to the next."""
    if reply.status == 404 or (reply.status == 410 and before is None):
        page.removed[group] = DeletedReason.NOT_SEEN
        return None
    trouble = trouble_of(reply, GROUP_MEMBERS.permission)
    if trouble is not None:
        raise trouble
    link = take_members(page, group, reply.body)
    if link is not None:
        target_of(link)
    if link is not None and link == before:
        raise Torn("Graph's next links go in circles", after=600)
    return link
