"""Read candidates by id before a sweep deletes them. Touches no database."""

from collections.abc import Mapping
from typing import Final

from models.resource import Resource
from models.resources import RESOURCES
from models.unresolved import Part, PartKind
from worker.graph.client import MAX_BATCH_ITEMS, GraphClient
from worker.store.mirror.edges import parse_edge_key
from worker.sync.finish.candidates import SweepCandidates
from worker.sync.finish.keep import Confirmation
from worker.sync.guard import sample
from worker.sync.sources.by_id import Address, classify_objects
from worker.sync.sources.member_lists import find_members
from worker.sync.sources.members import build_members_part

MAX_PARENTS_READ: Final = MAX_BATCH_ITEMS
"""Parents whose members are read to confirm edges: one ``$batch``."""


def confirm_candidates(client: GraphClient, candidates: SweepCandidates) -> Confirmation:
    """Return which candidates Graph still has.

    Raises RetryLater if no request can be sent now.
    """
    confirmed = Confirmation()
    for name, keys in candidates.keys_to_confirm.items():
        resource = RESOURCES[name]
        if len(keys) < candidates.doubtful_counts[name]:
            confirmed.sampled_resources.add(name)
        if resource.is_edge:
            _confirm_edges(client, resource, keys, confirmed)
        else:
            _confirm_objects(client, resource, keys, candidates.addresses, confirmed)
    return confirmed


def _confirm_objects(
    client: GraphClient,
    resource: Resource,
    keys: list[str],
    addresses: Mapping[str, Address],
    confirmed: Confirmation,
) -> None:
    """Read objects by id; locked ones do not prove a gap in the walk, as lists leave them out."""
    present, unknown, locked = classify_objects(client, resource, keys, addresses)
    confirmed.existing[resource.name] = present
    confirmed.asked_counts[resource.name] = len(keys)
    for key, why in (unknown | locked).items():
        confirmed.unanswered[Part(resource.name, PartKind.OBJECT, key)] = why


def _confirm_edges(
    client: GraphClient, resource: Resource, keys: list[str], confirmed: Confirmation
) -> None:
    """Read the current member lists of some of the parents concerned."""
    parents = sorted({parse_edge_key(key)[0] for key in keys})
    chosen = sample(parents, all_up_to=MAX_PARENTS_READ, size=MAX_PARENTS_READ)
    if len(chosen) < len(parents):
        confirmed.sampled_resources.add(resource.name)
    confirmed.existing[resource.name], unknown = find_members(client, resource, chosen, set(keys))
    confirmed.asked_counts[resource.name] = len(chosen)
    confirmed.unanswered |= {
        build_members_part(resource, parent): why for parent, why in unknown.items()
    }
