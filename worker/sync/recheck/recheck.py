"""Recheck edges of restored ends, and quarantined or unanswered objects.

Edges of a restored object are never revived from stored rows. Those that its deletion ended have
the reason ``cascade``; once both ends are live again, Graph is asked, and its response makes each
edge live or ends it. A parent with many such edges is read page by page (``parents.py``).

Objects are quarantined because they are malformed, or unanswered because Graph gave no answer. A
malformed parent may have announced member changes, so a quarantined one is read with all its
members and only then released.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from models.resource import Resource
from models.resources import (
    EDGES,
    RESOURCES,
    STREAMED,
    list_edge_ends,
)
from models.stream import Phase
from models.unresolved import NoAnswer, PartKind
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
from worker.graph.rowless import drop_rowless
from worker.graph.urls import build_object_path
from worker.nango.response import ApiResponse
from worker.rows.incoming import clear_columns
from worker.store.lease import Transaction
from worker.store.mirror.recheck import (
    RECHECK_BATCH,
)
from worker.store.state.quarantine import list_due_retries, list_quarantined_keys
from worker.store.state.streams import Stream, load_streams, save_stream
from worker.store.state.unresolved import (
    list_due_parts,
    resolve_deleted,
)
from worker.sync.context import SliceContext
from worker.sync.finish.removals import apply_round_removals
from worker.sync.parents import explain_wait
from worker.sync.recheck.edges import (
    EdgeAnswers,
    EdgeDoubts,
    fetch_edge_answers,
    load_edge_doubts,
    store_edge_answers,
)
from worker.sync.recheck.lists import recheck_lists_below
from worker.sync.recheck.objects import store_objects
from worker.sync.recheck.parents import recheck_parents, recheck_restored_parents
from worker.sync.sources.by_id import GONE_STATUSES, Address, load_addresses
from worker.sync.sources.partial_failures import build_unanswered, error_from_response, fetch_each


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
    object_addresses: dict[str, dict[str, Address]] = field(default_factory=dict)
    unresolved_kinds: dict[str, dict[str, PartKind]] = field(default_factory=dict)
    left_out: dict[str, Sequence[str]] = field(default_factory=dict)
    """Properties that are not asked for, by resource."""
    lists: dict[str, list[str]] = field(default_factory=dict)
    """Objects of another resource whose lists are unanswered, by the resource that they list."""

    def __bool__(self) -> bool:
        return bool(self.object_addresses or self.lists) or any(self.edges.values())


@dataclass
class RecheckAnswers:
    """The answers from Graph; a key without an object is deleted or unanswered."""

    edges: dict[str, EdgeAnswers] = field(default_factory=dict)
    objects: dict[str, dict[str, Page | NoAnswer | None]] = field(default_factory=dict)


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
            if resource.source.below and context.has_unresolved:
                _load_lists(context, tx, streams, streams[resource.name], doubts)
    return doubts


def _load_lists(
    context: SliceContext,
    tx: Transaction,
    streams: Mapping[str, Stream],
    stream: Stream,
    doubts: Recheck,
) -> None:
    """Note which lists are due to be read again, while those below which they are can be."""
    parents = streams[stream.resource.partitioned_by]
    if not stream.is_on or not _is_at_rest(stream) or explain_wait(parents) is not None:
        return
    manual = context.request.manual
    if keys := list_due_parts(tx, stream.name, PartKind.LIST, ignore_pauses=manual):
        doubts.lists[stream.name] = list(keys)


def _load_edges(
    context: SliceContext, tx: Transaction, stream: Stream, doubts: Recheck, off: frozenset[str]
) -> None:
    doubts.checked_seqs[stream.name] = tx.seq
    for edge in stream.carried_edges:
        doubts.edges[edge.name] = load_edge_doubts(context, tx, edge, stream.checked_seq, off)


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
        doubts.object_addresses[resource.name] = load_addresses(tx, resource, keys)
        doubts.left_out[resource.name] = stream.without


def _is_at_rest(stream: Stream) -> bool:
    """Whether the stream was completed before and nothing is under way."""
    resting = stream.phase in (Phase.DELTA, Phase.READY, Phase.HELD)
    return resting and stream.next_link is None and not stream.is_initial


def fetch_answers(client: GraphClient, doubts: Recheck) -> RecheckAnswers:
    """Read everything uncertain from Graph; use no database. Raises RetryLater if it cannot."""
    answers = RecheckAnswers()
    for name, some in doubts.edges.items():
        if some:
            answers.edges[name] = fetch_edge_answers(client, RESOURCES[name], some)
    for name, addresses in doubts.object_addresses.items():
        resource = RESOURCES[name]
        without = doubts.left_out.get(name, ())
        targets = {
            k: build_object_path(resource, *a, full=True, without=without)
            for k, a in addresses.items()
        }
        replies = fetch_each(client, targets)
        pages = {key: _parse_object(resource, one) for key, one in replies.items()}
        for page in pages.values():
            if isinstance(page, Page):
                clear_columns(page.rows, resource, resource.columns_of(without))
        answers.objects[name] = pages
    return answers


def _parse_object(resource: Resource, response: ApiResponse) -> Page | NoAnswer | None:
    if response.status in GONE_STATUSES:
        return None
    error = error_from_response(response, resource.permission)
    try:
        if error is not None:
            return build_unanswered(error)
        page = decode_object(resource, response.body)
    except MirrorError as unreadable:
        return build_unanswered(unreadable)
    drop_rowless(page, resource, is_whole=True)
    return None if page.removed else page


def store_answers(
    context: SliceContext, doubts: Recheck, answers: RecheckAnswers, streams: dict[str, Stream]
) -> dict[Resource, list[str]]:
    """Store the answers; return the parents to read with all their members, by edge."""
    for name, some in answers.edges.items():
        edge = RESOURCES[name]
        store_edge_answers(context, edge, doubts.edges[name], some, streams[edge.parent])
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
            for name, parents in doubts.lists.items():
                streams[name] = recheck_lists_below(context, streams[name], parents)
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
