"""Recheck the uncertain edges of one resource: load them, ask Graph, store its answers."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from models.resource import DeletedReason, Resource
from models.resources import RESOURCES, list_member_resources
from models.unresolved import NoAnswer, Part, PartKind
from worker.graph.client import GraphClient
from worker.store.lease import Transaction
from worker.store.mirror.edges import (
    Pair,
    delete_edges,
    merge_edges,
    parse_edge_key,
    render_edge_key,
)
from worker.store.mirror.recheck import (
    list_restored_endpoint_edges,
    list_restored_unseen_members,
    list_unknown_member_edges,
)
from worker.store.state.streams import Stream
from worker.store.state.unresolved import list_due_parts, resolve_parts
from worker.sync.context import SliceContext
from worker.sync.loading.erased_filter import without_erased
from worker.sync.loading.live_since import find_restored_live_since
from worker.sync.sources.by_id import find_existing
from worker.sync.sources.member_lists import fetch_member_parents

MAX_MEMBERS_ASKED = 20
"""Most edges of one parent that are read per member; beyond, the parent is read."""


@dataclass
class EdgeDoubts:
    """The edges of one resource that are uncertain.

    Edges of restored ends, and of members that are not mirrored, by pair; members restored before
    they were ever mirrored; parents whose members Graph did not answer for.
    """

    restored: dict[Pair, str] = field(default_factory=dict)
    unknown_members: dict[Pair, str] = field(default_factory=dict)
    restored_unseen: list[str] = field(default_factory=list)
    unresolved_parents: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        some = (
            self.restored or self.unknown_members or self.restored_unseen or self.unresolved_parents
        )
        return bool(some)


@dataclass
class EdgeAnswers:
    """The answers from Graph about the edges of one resource."""

    found: dict[str, str] = field(default_factory=dict)
    """Edges that exist, by key with the type of the member."""
    parents_to_list: set[str] = field(default_factory=set)
    """Parents whose own lists must be read for the uncertain edges."""
    gone_members: set[str] = field(default_factory=set)
    unanswered: dict[Part, NoAnswer] = field(default_factory=dict)
    answered_parts: list[Part] = field(default_factory=list)


def load_edge_doubts(
    context: SliceContext, tx: Transaction, edge: Resource, since: int, off: frozenset[str]
) -> EdgeDoubts:
    """Return the uncertain edges; those with events after ``since`` may have unknown members.

    Members of resources that are ``off`` are not expected to be mirrored.
    """
    doubts = EdgeDoubts(list_restored_endpoint_edges(tx, edge, off))
    if tx.seq > since:
        doubts.unknown_members = list_unknown_member_edges(tx, edge, since, off)
        doubts.restored_unseen = list_restored_unseen_members(tx, edge, since)
    if context.has_unresolved:
        doubts.unresolved_parents = _list_due(context, tx, edge.name, PartKind.MEMBERS)
        if members := _name_restored(edge):
            doubts.restored_unseen += _list_due(context, tx, members, PartKind.MEMBER_OF)
    return doubts


def _list_due(context: SliceContext, tx: Transaction, name: str, kind: PartKind) -> list[str]:
    return list(list_due_parts(tx, name, kind, ignore_pauses=context.request.manual))


def _name_restored(edge: Resource) -> str:
    """Return the resource of members whose restored edges no delta may report, or nothing."""
    return edge.edge.unreported_after_restore if edge.edge else ""


def fetch_edge_answers(client: GraphClient, edge: Resource, doubts: EdgeDoubts) -> EdgeAnswers:
    """Read each member's parents, except for parents whose lists have to be read anyway.

    Uses no database. Raises RetryLater if nothing can be asked.
    """
    crowded = _find_large_parents(doubts.restored)
    kinds = {pair[1]: kind for pair, kind in doubts.restored.items() if pair[0] not in crowded}
    restored = _name_restored(edge)
    if restored:
        unseen = dict.fromkeys(doubts.restored_unseen, RESOURCES[restored].member_type)
        kinds = unseen | kinds
    found = fetch_member_parents(client, edge, kinds)
    silent = found.unlisted_members | found.unknown.keys()
    to_list = crowded | {parent for parent, member in doubts.restored if member in silent}
    answers = EdgeAnswers(found.edges, to_list)
    for one in doubts.restored_unseen:
        part = Part(restored, PartKind.MEMBER_OF, one)
        if one in found.unknown:
            answers.unanswered[part] = found.unknown[one]
        else:
            answers.answered_parts.append(part)
    _fetch_unknown_members(client, edge, doubts, answers)
    return answers


def _find_large_parents(pairs: Iterable[Pair]) -> set[str]:
    counts = Counter(parent for parent, _ in pairs)
    return {parent for parent, number in counts.items() if number > MAX_MEMBERS_ASKED}


def _fetch_unknown_members(
    client: GraphClient, edge: Resource, doubts: EdgeDoubts, answers: EdgeAnswers
) -> None:
    """Find the members that are neither mirrored nor in Graph."""
    for resource in list_member_resources(edge):
        keys = [
            member
            for (_, member), kind in doubts.unknown_members.items()
            if kind == resource.member_type
        ]
        if keys:
            found = find_existing(client, resource, keys)
            answers.gone_members |= set(keys) - found.present - found.unknown.keys()
            for key, why in found.unknown.items():
                answers.unanswered[Part(resource.name, PartKind.OBJECT, key)] = why


def store_edge_answers(
    context: SliceContext,
    edge: Resource,
    doubts: EdgeDoubts,
    answers: EdgeAnswers,
    parents: Stream,
) -> None:
    """Store the rechecked edges; end those that the member's list lacks.

    So do those of members that were deleted before they were mirrored.
    """
    if doubts.restored or answers.found:
        _store_restored(context, edge, doubts, answers, parents)
    ended = [pair for pair in doubts.unknown_members if pair[1] in answers.gone_members]
    if not (ended or answers.unanswered or answers.answered_parts):
        return
    with context.open_transaction() as tx:
        reasons = dict.fromkeys(ended, DeletedReason.CASCADE.value)
        context.append_events(tx, edge, delete_edges(tx, edge, reasons), is_initial=False)
        context.save_unresolved(tx, answers.unanswered)
        if context.has_unresolved:
            resolve_parts(tx, answers.answered_parts)


def _store_restored(
    context: SliceContext,
    edge: Resource,
    doubts: EdgeDoubts,
    answers: EdgeAnswers,
    parents: Stream,
) -> None:
    with context.open_transaction() as tx:
        alive = {parse_edge_key(key): kind for key, kind in answers.found.items()}
        alive = without_erased(alive, context.erased)
        began = find_restored_live_since(context, tx, parents, edge)
        changes = merge_edges(tx, edge, alive, live_since=began)
        context.append_events(tx, edge, changes, is_initial=False)
        gone = {
            pair: DeletedReason.NOT_SEEN.value
            for pair in doubts.restored
            if render_edge_key(pair) not in answers.found and pair[0] not in answers.parents_to_list
        }
        context.append_events(tx, edge, delete_edges(tx, edge, gone), is_initial=False)
