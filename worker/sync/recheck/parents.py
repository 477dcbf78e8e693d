"""Read all members of whole parents, such as groups of any size, and store the result.

A malformed parent may have announced member changes, and a parent whose members Graph did not
answer for was left unchanged. Both are read with all their members. So is a parent with many edges
that ended with one of their ends and may have been restored with it.
"""

from collections.abc import Iterable, Mapping

from models.resource import DeletedReason, Resource
from models.resources import RESOURCES
from models.unresolved import NoAnswer, Part, PartKind
from worker.core.errors import (
    CursorExpired,
    MalformedResponse,
    MirrorError,
    ResourceRefused,
    RetryLater,
)
from worker.graph.links import path_from_link
from worker.graph.memberships import add_members
from worker.graph.page import Page
from worker.graph.urls import build_members_path
from worker.nango.response import ApiResponse
from worker.store.lease import Transaction
from worker.store.mirror.edges import (
    delete_edges,
    iterate_live_members,
    merge_edges,
    render_edge_key,
)
from worker.store.mirror.live_since import NOT_OBSERVED
from worker.store.mirror.recheck import list_restored_endpoint_members
from worker.store.state.quarantine import list_quarantined_keys, note_rejects, release_quarantined
from worker.store.state.streams import Stream
from worker.store.state.unresolved import resolve_parts
from worker.store.sweep.removals import note_removals, withdraw_removals
from worker.sync.context import SliceContext
from worker.sync.finish.removals import apply_round_removals
from worker.sync.loading.erased_filter import drop_erased
from worker.sync.loading.live_since import find_restored_live_since
from worker.sync.recheck.id_set import IdSet
from worker.sync.sources.by_id import GONE_STATUSES
from worker.sync.sources.member_lists import count_idle_pages
from worker.sync.sources.members import build_members_part
from worker.sync.sources.partial_failures import build_unanswered, error_from_response, fetch_each


def recheck_parents(
    context: SliceContext, stream: Stream, wanted: Mapping[Resource, Iterable[str]]
) -> Stream:
    """Read the members of some parents, and release those whose lists are valid; return the stream.

    ``wanted`` has the parents by edge. Members that a list does not show become removals like those
    of a round: they are applied after the last parent, and held if they are implausible. A refused
    list affects only its own parent; one is released once all its edges have been read.
    """
    missing, valid = 0, dict[str, int]()
    for edge, parents in wanted.items():
        some = list(parents)
        first = fetch_each(context.client, {one: build_members_path(edge, one) for one in some})
        for one in some:
            members, wrong = _fetch_and_store_members(context, edge, one, first.pop(one))
            if wrong is None and _has_missing_members(context, edge, one, members):
                confirmed, wrong = _fetch_members_again(context, edge, one)
                members.update(confirmed)
            missing += _finish_parent(context, edge, one, members, wrong)
            valid[one] = valid.get(one, 0) + (wrong is None)
    carried = len(stream.carried_edges)
    _release(context, stream.resource, [one for one, edges in valid.items() if edges == carried])
    return apply_round_removals(context, stream) if missing else stream


def recheck_restored_parents(
    context: SliceContext, stream: Stream, edge: Resource, parents: Iterable[str]
) -> None:
    """Read the members of parents with many edges whose ends have both been restored.

    Listed members become live again, page by page; the others have ended and are not checked again.
    A deleted parent has no members. A parent whose list is incomplete loses no edges.
    """
    parents = list(parents)
    first = fetch_each(context.client, {one: build_members_path(edge, one) for one in parents})
    for one in parents:
        response = first.pop(one)
        members, wrong = IdSet(), None
        if response.status not in GONE_STATUSES:
            members, wrong = _fetch_and_store_members(
                context, edge, one, response, restored_in=stream
            )
        if wrong is None:
            _end_unlisted_edges(context, edge, one, members)
        else:
            why = NoAnswer(wrong) if isinstance(wrong, str) else build_unanswered(wrong)
            with context.open_transaction() as tx:
                context.save_unresolved(tx, {build_members_part(edge, one): why})


def _end_unlisted_edges(context: SliceContext, edge: Resource, parent: str, members: IdSet) -> None:
    """Set the reason of edges that were not restored, a batch in each transaction."""
    after: str | None = "00000000-0000-0000-0000-000000000000"
    while after is not None:
        with context.open_transaction() as tx:
            some, after = list_restored_endpoint_members(tx, edge, parent, after)
            gone = [one for one in some if one not in members]
            reasons = {(parent, one): DeletedReason.NOT_SEEN.value for one in gone}
            context.append_events(tx, edge, delete_edges(tx, edge, reasons), is_initial=False)


ListProblem = str | MirrorError
"""Why a list of members may be incomplete: what is malformed, or the error from Graph."""


def _fetch_members_again(
    context: SliceContext, edge: Resource, parent: str
) -> tuple[IdSet, ListProblem | None]:
    response = fetch_each(context.client, {parent: build_members_path(edge, parent)})[parent]
    return _fetch_and_store_members(context, edge, parent, response)


def _fetch_and_store_members(
    context: SliceContext,
    edge: Resource,
    parent: str,
    response: ApiResponse,
    *,
    restored_in: Stream | None = None,
) -> tuple[IdSet, ListProblem | None]:
    """Store a parent's members page by page; return their ids and the problem, if any.

    Only ids are kept, 16 bytes each: 26 MB for 1.2 million members. With ``restored_in``, the
    stream of the parents, edges that become live are dated after its last read.
    """
    members = IdSet()
    wrong: ListProblem | None = None
    idle = 0
    while True:
        page, before = Page(), len(members)
        try:
            target = _parse_members(page, edge, parent, response)
            for _, member in page.get_edges(edge.name).found:
                members.add(member)
            idle = count_idle_pages(edge, idle, before, len(members))
        except (ResourceRefused, RetryLater, CursorExpired) as error:
            return members, error
        if page.rejects:
            wrong = page.rejects[0].reason
        _store_members(context, edge, page, restored_in)
        if target is None:
            return members, wrong
        response = fetch_each(context.client, {parent: target})[parent]


def _parse_members(page: Page, edge: Resource, parent: str, response: ApiResponse) -> str | None:
    """Decode a page of members; return the next path. Raises the error of a failed response."""
    error = error_from_response(response, edge.permission)
    if error is not None:
        raise error
    link = add_members(page, edge, parent, response.body)
    return None if link is None else path_from_link(link)


def _store_members(
    context: SliceContext, edge: Resource, page: Page, parents: Stream | None
) -> None:
    drop_erased(page, edge, context.erased)
    found = page.get_edges(edge.name).found
    with context.open_transaction() as tx:
        began = NOT_OBSERVED
        if parents is not None:
            began = find_restored_live_since(context, tx, parents, edge)
        changes = merge_edges(tx, edge, found, live_since=began)
        context.append_events(tx, edge, changes, is_initial=False)
        withdraw_removals(tx, edge, [render_edge_key(pair) for pair in found])


def _has_missing_members(
    context: SliceContext, edge: Resource, parent: str, members: IdSet
) -> bool:
    with context.open_transaction() as tx:
        batches = iterate_live_members(tx, edge, parent)
        return any(one not in members for some in batches for one in some)


def _finish_parent(
    context: SliceContext,
    edge: Resource,
    parent: str,
    members: IdSet,
    wrong: ListProblem | None,
) -> int:
    """Record removals of unlisted members, or what is wrong; return how many."""
    with context.open_transaction() as tx:
        if wrong is not None:
            _save_problem(context, tx, edge, parent, wrong)
            return 0
        missing = 0
        for some in iterate_live_members(tx, edge, parent):
            gone = [render_edge_key((parent, one)) for one in some if one not in members]
            note_removals(tx, edge, dict.fromkeys(gone, DeletedReason.NOT_SEEN.value))
            missing += len(gone)
        if context.has_unresolved:
            resolve_parts(tx, [build_members_part(edge, parent)])
    return missing


def _release(context: SliceContext, resource: Resource, parents: list[str]) -> None:
    """Release parents whose members have all been read from quarantine, and resolve them."""
    if not parents:
        return
    with context.open_transaction() as tx:
        release_quarantined(tx, resource, parents)
        if context.has_unresolved:
            resolve_parts(tx, [Part(resource.name, PartKind.OBJECT, one) for one in parents])


def _save_problem(
    context: SliceContext, tx: Transaction, edge: Resource, parent: str, wrong: ListProblem
) -> None:
    """Keep a parent whose list is incomplete in quarantine, or as an unanswered part."""
    parents = RESOURCES[edge.parent]
    match wrong:
        case str():
            note_rejects(tx, parents, [(parent, wrong)])
            context.has_quarantined[parents.name] = True
        case ResourceRefused() | MalformedResponse() if parent in list_quarantined_keys(
            tx, parents.name
        ):
            note_rejects(tx, parents, [(parent, f"its {edge.relation}: {wrong.message}")])
        case MirrorError():
            context.save_unresolved(tx, {build_members_part(edge, parent): build_unanswered(wrong)})
