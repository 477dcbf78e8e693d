"""Recheck edges of restored ends, and quarantined or unanswered objects.

Edges of a restored object are never revived from stored rows. Those that its deletion ended have
the reason ``cascade``; once both ends are live again, Graph is asked, and its response makes each
edge live or ends it. A parent with many such edges is read page by page (``parents.py``).

Objects are quarantined because they are malformed, or unanswered because Graph gave no answer. A
malformed parent may have announced member changes, so a quarantined one is read with all its
members and only then released.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from models.resource import DeletedReason, Resource
from models.resources import (
    EDGES,
    RESOURCES,
    STREAMED,
    list_edge_ends,
    list_member_resources,
)
from models.stream import Phase
from models.unresolved import NoAnswer, Part, PartKind
from worker.core.errors import (
    CursorExpired,
    MirrorError,
    ResourceRefused,
    RetryLater,
    StorageFull,
)
from worker.graph.client import GraphClient
from worker.graph.decode import decode_object
from worker.graph.page import Page
from worker.graph.urls import build_object_path
from worker.nango.response import ApiResponse
from worker.rows.incoming import clear_columns
from worker.store.lease import Transaction
from worker.store.mirror.edges import (
    Pair,
    delete_edges,
    merge_edges,
    parse_edge_key,
    render_edge_key,
)
from worker.store.mirror.merge import load_rows
from worker.store.mirror.recheck import (
    RECHECK_BATCH,
    list_restored_endpoint_edges,
    list_restored_unseen_members,
    list_unknown_member_edges,
)
from worker.store.state.quarantine import list_due_retries, list_quarantined_keys
from worker.store.state.streams import Stream, load_streams, save_stream
from worker.store.state.unresolved import (
    list_due_parts,
    resolve_deleted,
    resolve_parts,
)
from worker.sync.context import SliceContext
from worker.sync.finish.removals import apply_round_removals
from worker.sync.loading.erased_filter import without_erased
from worker.sync.loading.live_since import find_restored_live_since
from worker.sync.recheck.objects import store_objects
from worker.sync.recheck.parents import recheck_parents, recheck_restored_parents
from worker.sync.sources.by_id import GONE_STATUSES, find_existing
from worker.sync.sources.member_lists import fetch_member_parents
from worker.sync.sources.partial_failures import build_unanswered, error_from_response, fetch_each

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
class Recheck:
    """The edges and objects that are uncertain.

    Addresses of quarantined and unanswered objects, by resource. ``unresolved_kinds`` names the
    part of each unanswered one.
    """

    edges: dict[str, EdgeDoubts] = field(default_factory=dict)
    """By the name of their resource."""
    checked_seqs: dict[str, int] = field(default_factory=dict)
    """Up to which event the edges have been checked, by the stream that carries them."""
    object_addresses: dict[str, dict[str, str]] = field(default_factory=dict)
    unresolved_kinds: dict[str, dict[str, PartKind]] = field(default_factory=dict)
    left_out: dict[str, Sequence[str]] = field(default_factory=dict)
    """Properties that are not asked for, by resource."""

    def __bool__(self) -> bool:
        return bool(self.object_addresses) or any(self.edges.values())


@dataclass
class EdgeAnswers:
    """The answers from Graph about the edges of one resource."""

    found: dict[str, str] = field(default_factory=dict)
    """Edges that exist, by key with the type of the member."""
    parents_to_list: set[str] = field(default_factory=set)
    """Parents whose own lists must be read for the uncertain edges."""


@dataclass
class RecheckAnswers:
    """The answers from Graph; a key without an object is deleted or unanswered."""

    edges: dict[str, EdgeAnswers] = field(default_factory=dict)
    gone_members: set[str] = field(default_factory=set)
    objects: dict[str, dict[str, Page | NoAnswer | None]] = field(default_factory=dict)
    unanswered: dict[Part, NoAnswer] = field(default_factory=dict)
    answered_parts: list[Part] = field(default_factory=list)


def load_recheck(context: SliceContext, streams: Mapping[str, Stream]) -> Recheck:
    """Return what to recheck, unless a walk that might resolve it is under way."""
    doubts = Recheck()
    with context.open_read_transaction() as tx:
        if context.has_unresolved:
            resolve_deleted(tx)
        off = frozenset(name for name, stream in streams.items() if not stream.is_on)
        for stream in streams.values():
            ends = {name for edge in stream.carried_edges for name in list_edge_ends(edge)} - off
            if ends and stream.is_on and all(_is_at_rest(streams[name]) for name in ends):
                _load_edges(context, tx, stream, doubts, off)
        for resource in STREAMED:
            _load_objects(context, tx, streams[resource.name], doubts)
    return doubts


def _load_edges(
    context: SliceContext, tx: Transaction, stream: Stream, doubts: Recheck, off: frozenset[str]
) -> None:
    doubts.checked_seqs[stream.name] = tx.seq
    for edge in stream.carried_edges:
        found = doubts.edges[edge.name] = EdgeDoubts(list_restored_endpoint_edges(tx, edge, off))
        if tx.seq > stream.checked_seq:
            found.unknown_members = list_unknown_member_edges(tx, edge, stream.checked_seq, off)
            found.restored_unseen = list_restored_unseen_members(tx, edge, stream.checked_seq)
        if context.has_unresolved:
            found.unresolved_parents = _list_due(context, tx, edge.name, PartKind.MEMBERS)
            if members := _name_restored(edge):
                found.restored_unseen += _list_due(context, tx, members, PartKind.MEMBER_OF)


def _list_due(context: SliceContext, tx: Transaction, name: str, kind: PartKind) -> list[str]:
    return list(list_due_parts(tx, name, kind, ignore_pauses=context.request.manual))


def _name_restored(edge: Resource) -> str:
    """Return the resource of members whose restored edges no delta may report, or nothing."""
    return edge.edge.unreported_after_restore if edge.edge else ""


def _load_objects(context: SliceContext, tx: Transaction, stream: Stream, doubts: Recheck) -> None:
    resource, now = stream.resource, context.request.manual
    keys: list[str] = []
    if context.has_quarantined.get(resource.name) and (
        not stream.carried_edges or _is_at_rest(stream)
    ):
        keys += list_due_retries(tx, resource, ignore_pauses=now)
    if context.has_unresolved and _is_at_rest(stream):
        kinds = (PartKind.OBJECT, PartKind.UNLISTED)
        parts = list_due_parts(tx, resource.name, *kinds, ignore_pauses=now)
        doubts.unresolved_kinds[resource.name] = {
            k: kind for k, kind in parts.items() if k not in keys
        }
        keys += doubts.unresolved_kinds[resource.name]
    if keys:
        doubts.object_addresses[resource.name] = _load_addresses(tx, resource, keys)
        doubts.left_out[resource.name] = stream.without


def _is_at_rest(stream: Stream) -> bool:
    """Whether the stream was completed before and nothing is under way."""
    resting = stream.phase in (Phase.DELTA, Phase.READY, Phase.HELD)
    return resting and stream.next_link is None and not stream.is_initial


def _load_addresses(tx: Transaction, resource: Resource, keys: list[str]) -> dict[str, str]:
    if resource.address in resource.key:
        return {key: key for key in keys}
    position = resource.column_names.index(resource.address)
    stored = load_rows(tx, resource, keys)
    return {key: (stored[key].row[position] if key in stored else None) or key for key in keys}


def fetch_answers(client: GraphClient, doubts: Recheck) -> RecheckAnswers:
    """Read everything uncertain from Graph; use no database. Raises RetryLater if it cannot."""
    answers = RecheckAnswers()
    for name, some in doubts.edges.items():
        if some:
            _fetch_edges(client, RESOURCES[name], some, answers)
            _fetch_unknown_members(client, RESOURCES[name], some, answers)
    for name, addresses in doubts.object_addresses.items():
        resource = RESOURCES[name]
        without = doubts.left_out.get(name, ())
        targets = {
            k: build_object_path(resource, a, full=True, without=without)
            for k, a in addresses.items()
        }
        replies = fetch_each(client, targets)
        pages = {key: _parse_object(resource, one) for key, one in replies.items()}
        for page in pages.values():
            if isinstance(page, Page):
                clear_columns(page.rows, resource, resource.columns_of(without))
        answers.objects[name] = pages
    return answers


def _fetch_edges(
    client: GraphClient, edge: Resource, doubts: EdgeDoubts, answers: RecheckAnswers
) -> None:
    """Read each member's parents, except for parents whose lists have to be read anyway."""
    crowded = _find_large_parents(doubts.restored)
    kinds = {pair[1]: kind for pair, kind in doubts.restored.items() if pair[0] not in crowded}
    restored = _name_restored(edge)
    if restored:
        unseen = dict.fromkeys(doubts.restored_unseen, RESOURCES[restored].member_type)
        kinds = unseen | kinds
    found = fetch_member_parents(client, edge, kinds)
    silent = found.unlisted_members | found.unknown.keys()
    to_list = crowded | {parent for parent, member in doubts.restored if member in silent}
    answers.edges[edge.name] = EdgeAnswers(found.edges, to_list)
    for one in doubts.restored_unseen:
        part = Part(restored, PartKind.MEMBER_OF, one)
        if one in found.unknown:
            answers.unanswered[part] = found.unknown[one]
        else:
            answers.answered_parts.append(part)


def _fetch_unknown_members(
    client: GraphClient, edge: Resource, doubts: EdgeDoubts, answers: RecheckAnswers
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


def _find_large_parents(pairs: Iterable[Pair]) -> set[str]:
    counts = Counter(parent for parent, _ in pairs)
    return {parent for parent, number in counts.items() if number > MAX_MEMBERS_ASKED}


def _parse_object(resource: Resource, response: ApiResponse) -> Page | NoAnswer | None:
    if response.status in GONE_STATUSES:
        return None
    error = error_from_response(response, resource.permission)
    try:
        return decode_object(resource, response.body) if error is None else build_unanswered(error)
    except MirrorError as unreadable:
        return build_unanswered(unreadable)


def store_answers(
    context: SliceContext, doubts: Recheck, answers: RecheckAnswers, streams: dict[str, Stream]
) -> dict[Resource, list[str]]:
    """Store the answers; return the parents to read with all their members, by edge."""
    for name, some in answers.edges.items():
        edge = RESOURCES[name]
        _store_edges(context, edge, doubts.edges[name], some, streams[edge.parent])
    if answers.unanswered or answers.answered_parts:
        with context.open_transaction() as tx:
            context.save_unresolved(tx, answers.unanswered)
            resolve_parts(tx, answers.answered_parts)
    _end_unknown_members(context, doubts, answers.gone_members)
    for name, objects in answers.objects.items():
        parts = doubts.unresolved_kinds.get(name, {})
        if store_objects(context, streams[name], objects, parts):
            streams[name] = apply_round_removals(context, streams[name])
    wanted: dict[Resource, list[str]] = {}
    for edge in EDGES:
        if edge in streams[edge.parent].carried_edges:
            unresolved = doubts.edges.get(edge.name, EdgeDoubts()).unresolved_parents
            uncertain = _list_uncertain_parents(context, edge.parent, doubts, answers)
            wanted[edge] = sorted({*uncertain, *unresolved})
    return {edge: parents for edge, parents in wanted.items() if parents}


def _list_uncertain_parents(
    context: SliceContext, parent: str, doubts: Recheck, answers: RecheckAnswers
) -> set[str]:
    """Return the quarantined and unanswered parents that exist and are well-formed now."""
    objects = answers.objects.get(parent, {})
    there = {key for key, page in objects.items() if isinstance(page, Page) and not page.rejects}
    if not there:
        return set()
    with context.open_read_transaction() as tx:
        apart = list_quarantined_keys(tx, parent) | doubts.unresolved_kinds.get(parent, {}).keys()
    return there & apart


def _end_unknown_members(context: SliceContext, doubts: Recheck, gone: Collection[str]) -> None:
    """End the edges of members that were deleted before they were mirrored."""
    for name, some in doubts.edges.items():
        pairs = [pair for pair in some.unknown_members if pair[1] in gone]
        if pairs:
            edge, ended = RESOURCES[name], dict.fromkeys(pairs, DeletedReason.CASCADE.value)
            with context.open_transaction() as tx:
                context.append_events(tx, edge, delete_edges(tx, edge, ended), is_initial=False)


def _store_edges(
    context: SliceContext,
    edge: Resource,
    doubts: EdgeDoubts,
    answers: EdgeAnswers,
    parents: Stream,
) -> None:
    """Store the rechecked edges; end those that the member's list lacks."""
    if not (doubts.restored or answers.found):
        return
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


def save_checked_seq(context: SliceContext, stream: Stream, doubts: Recheck) -> None:
    """Save up to where edges were checked, unless there were too many at once."""
    checked = doubts.checked_seqs.get(stream.name, 0)
    some = [doubts.edges[edge.name] for edge in stream.carried_edges if edge.name in doubts.edges]
    is_complete = all(len(one.unknown_members) < RECHECK_BATCH for one in some)
    if checked > stream.checked_seq and is_complete:
        with context.open_transaction() as tx:
            now = load_streams(tx.db, tx.connection_id)[stream.name]
            save_stream(tx, now, replace(now, checked_seq=checked))


def run_recheck(context: SliceContext, streams: dict[str, Stream]) -> dict[str, MirrorError]:
    """Recheck what is uncertain; return the errors by resource."""
    doubts = load_recheck(context, streams)
    try:
        if doubts:
            answers = fetch_answers(context.client, doubts)
            wanted = store_answers(context, doubts, answers, streams)
            _recheck_lists(context, answers, wanted, streams)
        for name in doubts.checked_seqs:
            save_checked_seq(context, streams[name], doubts)
    except StorageFull:
        raise
    except (RetryLater, ResourceRefused, CursorExpired) as error:
        return {error.resource or EDGES[0].name: error}
    return {}


def _recheck_lists(
    context: SliceContext,
    answers: RecheckAnswers,
    wanted: Mapping[Resource, list[str]],
    streams: dict[str, Stream],
) -> None:
    """Read the lists of members that are wanted, with those that only a parent's list shows."""
    for name, some in answers.edges.items():
        edge, parents = RESOURCES[name], sorted(some.parents_to_list)
        recheck_restored_parents(context, streams[edge.parent], edge, parents)
    for name in {edge.parent for edge in wanted}:
        lists = {edge: parents for edge, parents in wanted.items() if edge.parent == name}
        streams[name] = recheck_parents(context, streams[name], lists)
