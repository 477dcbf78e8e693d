"""Reading candidates by id before a sweep is believed. Touches no database."""

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from models.resource import Kind, Resource
from models.resources import RESOURCES
from models.resources.group_members import GROUP_MEMBERS
from models.unresolved import Part, PartKind, Unanswered
from worker.core.errors import Torn, Trouble
from worker.graph.batch import LIMIT, Batcher
from worker.graph.links import target_of
from worker.graph.memberships import edges_of
from worker.graph.targets import member_of_target, members_target, object_target
from worker.nango.reply import Reply
from worker.store.edges import Pair, edge_key, pair_of
from worker.sync.guard import sample
from worker.sync.judging import Candidates
from worker.sync.members import members_of
from worker.sync.parts import (
    GONE,
    Existence,
    ask_each,
    each_its_own,
    existence,
    trouble_of,
)
from worker.sync.spared import Confirmed

GROUPS_READ: Final = LIMIT
"""Groups whose members are read to confirm memberships: one ``$batch``."""

IDLE: Final = 50
"""Pages of a list running that bring nothing new: then its next links go in circles."""


class Found(NamedTuple):
    """Which of some objects exist, and of which Graph does not say."""

    present: set[str]
    unknown: dict[str, Unanswered]


def still_there(batcher: Batcher, found: Candidates) -> Confirmed:
    """What Graph says of the candidates. Raises Later where it can be asked for nothing now."""
    confirmed = Confirmed()
    for name, keys in found.to_confirm.items():
        resource = RESOURCES[name]
        if len(keys) < found.doubtful[name]:
            confirmed.sampled.add(name)
        if resource.kind is Kind.EDGE:
            _confirm_edges(batcher, keys, confirmed)
        else:
            _confirm_objects(batcher, resource, keys, found.addresses, confirmed)
    return confirmed


def _confirm_objects(
    batcher: Batcher,
    resource: Resource,
    keys: list[str],
    addresses: Mapping[str, str],
    confirmed: Confirmed,
) -> None:
    """A locked object is one that lists leave out: that does not make a walk torn."""
    present, unknown, locked = _existing(batcher, resource, keys, addresses)
    confirmed.present[resource.name] = present
    confirmed.asked[resource.name] = len(keys)
    for key, why in (unknown | locked).items():
        confirmed.apart[Part(resource.name, PartKind.OBJECT, key)] = why


def existing(batcher: Batcher, resource: Resource, keys: list[str]) -> Found:
    """Those of the keys that Graph has, locked ones included."""
    present, unknown, locked = _existing(batcher, resource, keys, {})
    return Found(present | locked.keys(), unknown)


def _existing(
    batcher: Batcher, resource: Resource, keys: list[str], addresses: Mapping[str, str]
) -> tuple[set[str], dict[str, Unanswered], dict[str, Unanswered]]:
    """Those that are there, those of which Graph does not say, and those that are locked."""
    replies = ask_each(
        batcher, {key: object_target(resource, addresses.get(key, key)) for key in keys}
    )
    meaning = {key: existence(reply) for key, reply in replies.items()}
    present = {key for key, what in meaning.items() if what is Existence.THERE}
    locked = {
        key: Unanswered("Graph answers 423, it is locked")
        for key, what in meaning.items()
        if what is Existence.LOCKED
    }
    troubles = {
        key: trouble
        for key, what in meaning.items()
        if what is Existence.UNKNOWN
        and (trouble := trouble_of(replies[key], resource.permission)) is not None
    }
    return present, each_its_own(troubles, len(keys)), locked


def _confirm_edges(batcher: Batcher, keys: list[str], confirmed: Confirmed) -> None:
    """Members of some of the groups concerned, as Graph lists them now."""
    groups = sorted({pair_of(key)[0] for key in keys})
    chosen = sample(groups, everything_up_to=GROUPS_READ, otherwise=GROUPS_READ)
    if len(chosen) < len(groups):
        confirmed.sampled.add(GROUP_MEMBERS.name)
    confirmed.present[GROUP_MEMBERS.name], unknown = read_members(batcher, chosen, set(keys))
    confirmed.asked[GROUP_MEMBERS.name] = len(chosen)
    confirmed.apart |= {members_of(group): why for group, why in unknown.items()}


Named = Callable[[str, Mapping[Pair, str]], dict[str, str]]
"""The memberships that are wanted, edge key to member type, in a page of one list."""


class Lists:
    """Reads several lists side by side, page by page; one that fails costs only itself.

    Of a list only the memberships that ``named`` picks out are kept, and 16 bytes for each page.
    """

    def __init__(self, batcher: Batcher, named: Named) -> None:
        self._batcher = batcher
        self._named = named
        self._pages: dict[str, set[bytes]] = {}
        self.edges: dict[str, str] = {}
        self.gone: set[str] = set()
        self.unknown: dict[str, Unanswered] = {}

    def read(self, targets: dict[str, str]) -> None:
        idle = dict.fromkeys(targets, 0)
        while targets:
            upcoming, troubles = {}, {}
            for one, reply in ask_each(self._batcher, targets).items():
                try:
                    link, is_new = self._take(one, reply)
                    idle[one] = idle_pages(idle[one], 0, int(is_new))
                except Trouble as trouble:
                    troubles[one] = trouble
                    continue
                if link is not None:
                    upcoming[one] = link
            self.unknown |= each_its_own(troubles, len(targets))
            targets = upcoming

    def _take(self, one: str, reply: Reply) -> tuple[str | None, bool]:
        """The next target, and whether the page is another than all before it."""
        if reply.status in GONE:
            self.gone.add(one)
            return None, True
        trouble = trouble_of(reply, GROUP_MEMBERS.permission)
        if trouble is not None:
            raise trouble
        edges, link = edges_of(one, reply.body)
        self.edges |= self._named(one, edges)
        if link is None:
            self._pages.pop(one, None)
            return None, True
        return target_of(link), self._is_new(one, edges)

    def _is_new(self, one: str, edges: Collection[Pair]) -> bool:
        """An empty page never is; a list that goes in circles shows the same pages again."""
        pages = self._pages.setdefault(one, set())
        digest = hashlib.blake2b(repr(sorted(edges)).encode(), digest_size=16).digest()
        is_new = bool(edges) and digest not in pages
        pages.add(digest)
        return is_new


def read_members(
    batcher: Batcher, groups: Iterable[str], wanted: Collection[str]
) -> tuple[set[str], dict[str, Unanswered]]:
    """Those of the ``wanted`` memberships, by edge key, that the lists of the groups show.

    A group that is gone has none. The second value names groups of which Graph does not say.
    """

    def named(_: str, edges: Mapping[Pair, str]) -> dict[str, str]:
        keys = {edge_key(pair): kind for pair, kind in edges.items()}
        return {key: kind for key, kind in keys.items() if key in wanted}

    lists = Lists(batcher, named)
    lists.read({group: members_target(group) for group in groups})
    return set(lists.edges), lists.unknown


def idle_pages(idle: int, before: int, now: int) -> int:
    """How many pages running have not made a list grow, counting the latest one.

    Single pages may be empty. Raises Torn where so many are that the list will never end.
    """
    idle = 0 if now > before else idle + 1
    if idle > IDLE:
        raise Torn("Graph's next links go in circles", resource="group_members", after=600)
    return idle


@dataclass
class Memberships:
    """The groups that some members are directly in: edge key to member type.

    Of ``others`` only the groups' own lists tell, as they are no users or groups, or are gone;
    of the ``unknown`` Graph does not say.
    """

    edges: dict[str, str]
    others: set[str]
    unknown: dict[str, Unanswered]


def read_member_of(batcher: Batcher, members: Mapping[str, str]) -> Memberships:
    """The groups that each member (id to member type) is directly in."""
    others = {one for one, kind in members.items() if kind not in ("user", "group")}

    def named(one: str, edges: Mapping[Pair, str]) -> dict[str, str]:
        groups = [group for (_, group), kind in edges.items() if kind == "group"]
        return {edge_key((group, one)): members[one] for group in groups}

    lists = Lists(batcher, named)
    lists.read(
        {
            one: member_of_target(f"{kind}s", one)
            for one, kind in members.items()
            if one not in others
        }
    )
    return Memberships(lists.edges, others | lists.gone, lists.unknown)
