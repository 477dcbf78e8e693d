"""Reading candidates by id before a sweep is believed. Touches no database."""

import time
from collections.abc import Iterable, Mapping
from typing import Final

from models.resource import Kind, Resource
from models.resources import RESOURCES
from worker.core.errors import Later, Refused, Torn
from worker.graph.batch import Batcher
from worker.graph.links import target_of
from worker.graph.memberships import edges_of
from worker.graph.targets import member_of_target, members_target, object_target
from worker.graph.verdict import graph_trouble
from worker.nango.reply import Reply
from worker.store.edges import edge_key, pair_of
from worker.sync.guard import sample
from worker.sync.sweep import Candidates

GROUPS_READ: Final = 20
"""Groups whose members are read to confirm memberships: one ``$batch``."""

IDLE: Final = 50
"""Pages of a list running that bring nothing new: then its next links go in circles."""


def still_there(batcher: Batcher, found: Candidates) -> dict[str, set[str]]:
    """The candidates that Graph still has, by resource.

    Raises Later where Graph does not say; then nothing may be deleted.
    """
    return {
        name: _edges(batcher, keys)
        if RESOURCES[name].kind is Kind.EDGE
        else existing(batcher, RESOURCES[name], keys, found.addresses)
        for name, keys in found.to_confirm.items()
    }


def existing(
    batcher: Batcher, resource: Resource, keys: list[str], addresses: dict[str, str]
) -> set[str]:
    """Those of the keys that Graph has. Raises Later where Graph does not say."""
    targets = {key: object_target(resource, addresses.get(key, key)) for key in keys}
    replies = batcher.get_all(targets)
    return {key for key, reply in replies.items() if _exists(resource, reply)}


def _exists(resource: Resource, reply: Reply) -> bool:
    trouble = graph_trouble(reply, time.time())
    if trouble is None:
        return True
    if isinstance(trouble, Refused) and trouble.status == 404:
        return False
    raise Later(
        f"a deletion could not be confirmed ({trouble.message}); nothing was deleted",
        resource=resource.name,
        after=trouble.after or 300,
    )


def _edges(batcher: Batcher, keys: list[str]) -> set[str]:
    """Members of some of the groups concerned, as Graph lists them now."""
    groups = sorted({pair_of(key)[0] for key in keys})
    chosen = sample(groups, everything_up_to=GROUPS_READ, otherwise=GROUPS_READ)
    return read_members(batcher, chosen).keys() & set(keys)


def read_members(batcher: Batcher, groups: Iterable[str]) -> dict[str, str]:
    """Every direct membership of the given groups: edge key to member type.

    A group that is gone has none. Raises Later where Graph does not say.
    """
    found: dict[str, str] = {}
    targets = {group: members_target(group) for group in groups}
    idle = 0
    while targets:
        upcoming, before = {}, len(found)
        for group, reply in batcher.get_all(targets).items():
            if not _exists(RESOURCES["group_members"], reply):
                continue
            edges, link = edges_of(group, reply.body)
            found |= {edge_key(pair): kind for pair, kind in edges.items()}
            if link is not None:
                upcoming[group] = target_of(link)
        targets, idle = upcoming, idle_pages(idle, before, len(found))
    return found


def idle_pages(idle: int, before: int, now: int) -> int:
    """How many pages running have not made a list grow, counting the latest one.

    Single pages may be empty. Raises Torn where so many are that the list will never end.
    """
    idle = 0 if now > before else idle + 1
    if idle > IDLE:
        raise Torn("Graph's next links go in circles", resource="group_members", after=600)
    return idle


def read_member_of(batcher: Batcher, members: Mapping[str, str]) -> tuple[dict[str, str], set[str]]:
    """The groups that each member (id to member type) is directly in: edge key to member type.

    The second value names members of which Graph does not say; their groups must be read.
    """
    found: dict[str, str] = {}
    unknown = {one for one, kind in members.items() if kind not in ("user", "group")}
    targets = {
        one: member_of_target(f"{kind}s", one)
        for one, kind in members.items()
        if one not in unknown
    }
    idle = 0
    while targets:
        upcoming, before = {}, len(found)
        for one, reply in batcher.get_all(targets).items():
            trouble = graph_trouble(reply, time.time())
            if isinstance(trouble, Refused):
                unknown.add(one)
            elif trouble is not None:
                raise trouble
            else:
                edges, link = edges_of(one, reply.body)
                found |= {
                    edge_key((group, one)): members[one]
                    for (_, group), kind in edges.items()
                    if kind == "group"
                }
                if link is not None:
                    upcoming[one] = target_of(link)
        targets, idle = upcoming, idle_pages(idle, before, len(found))
    return found, unknown
