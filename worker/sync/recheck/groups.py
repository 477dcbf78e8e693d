"""Read all members of whole groups, of any size, and store the result.

A malformed group object may have announced member changes, and a group whose members Graph did not
answer for was left unchanged. Both are read with all their members. So is a group with many
memberships that ended with one of their ends and may have been restored with it.
"""

from collections.abc import Iterable

from models.resource import DeletedReason
from models.resources.group_members import GROUP_MEMBERS
from models.resources.groups import GROUPS
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


def recheck_groups(context: SliceContext, stream: Stream, groups: Iterable[str]) -> Stream:
    """Read the members of some groups, and release those whose list is valid; return the stream.

    Members that a list does not show become removals like those of a round: they are applied after
    the last group, and held if they are implausible. A refused list affects only its own group.
    """
    groups = list(groups)
    first = fetch_each(context.client, {group: build_members_path(group) for group in groups})
    missing = 0
    for group in groups:
        members, wrong = _fetch_and_store_members(context, group, first.pop(group))
        if wrong is None and _has_missing_members(context, group, members):
            confirmed, wrong = _fetch_members_again(context, group)
            members.update(confirmed)
        missing += _finish_group(context, group, members, wrong)
    return apply_round_removals(context, stream) if missing else stream


def recheck_restored_groups(context: SliceContext, stream: Stream, groups: Iterable[str]) -> None:
    """Read the members of groups with many memberships whose ends have both been restored.

    Listed members become live again, page by page; the others have ended and are not checked again.
    A deleted group has no members. A group whose list is incomplete loses no memberships.
    """
    groups = list(groups)
    first = fetch_each(context.client, {group: build_members_path(group) for group in groups})
    for group in groups:
        response = first.pop(group)
        members, wrong = IdSet(), None
        if response.status not in GONE_STATUSES:
            members, wrong = _fetch_and_store_members(context, group, response, restored_in=stream)
        if wrong is None:
            _end_unlisted_edges(context, group, members)
        else:
            why = NoAnswer(wrong) if isinstance(wrong, str) else build_unanswered(wrong)
            with context.open_transaction() as tx:
                context.save_unresolved(tx, {build_members_part(group): why})


def _end_unlisted_edges(context: SliceContext, group: str, members: IdSet) -> None:
    """Set the reason of memberships that were not restored, a batch in each transaction."""
    after: str | None = "00000000-0000-0000-0000-000000000000"
    while after is not None:
        with context.open_transaction() as tx:
            some, after = list_restored_endpoint_members(tx, GROUP_MEMBERS, group, after)
            gone = [one for one in some if one not in members]
            reasons = {(group, one): DeletedReason.NOT_SEEN.value for one in gone}
            context.append_events(
                tx, GROUP_MEMBERS, delete_edges(tx, GROUP_MEMBERS, reasons), is_initial=False
            )


ListProblem = str | MirrorError
"""Why a list of members may be incomplete: what is malformed, or the error from Graph."""


def _fetch_members_again(context: SliceContext, group: str) -> tuple[IdSet, ListProblem | None]:
    response = fetch_each(context.client, {group: build_members_path(group)})[group]
    return _fetch_and_store_members(context, group, response)


def _fetch_and_store_members(
    context: SliceContext, group: str, response: ApiResponse, *, restored_in: Stream | None = None
) -> tuple[IdSet, ListProblem | None]:
    """Store a group's members page by page; return their ids and the problem, if any.

    Only ids are kept, 16 bytes each: 26 MB for 1.2 million members. With ``restored_in``, the
    stream of groups, memberships that become live are dated after its last read.
    """
    members = IdSet()
    wrong: ListProblem | None = None
    idle = 0
    while True:
        page, before = Page(), len(members)
        try:
            target = _parse_members(page, group, response)
            for _, member in page.edges:
                members.add(member)
            idle = count_idle_pages(idle, before, len(members))
        except (ResourceRefused, RetryLater, CursorExpired) as error:
            return members, error
        if page.rejects:
            wrong = page.rejects[0].reason
        _store_members(context, page, restored_in)
        if target is None:
            return members, wrong
        response = fetch_each(context.client, {group: target})[group]


def _parse_members(page: Page, group: str, response: ApiResponse) -> str | None:
    """Decode a page of members; return the next path. Raises the error of a failed response."""
    error = error_from_response(response, GROUP_MEMBERS.permission)
    if error is not None:
        raise error
    link = add_members(page, group, response.body)
    return None if link is None else path_from_link(link)


def _store_members(context: SliceContext, page: Page, groups: Stream | None) -> None:
    drop_erased(page, GROUP_MEMBERS, context.erased)
    with context.open_transaction() as tx:
        began = find_restored_live_since(context, tx, groups) if groups else NOT_OBSERVED
        changes = merge_edges(tx, GROUP_MEMBERS, page.edges, live_since=began)
        context.append_events(tx, GROUP_MEMBERS, changes, is_initial=False)
        withdraw_removals(tx, GROUP_MEMBERS, [render_edge_key(pair) for pair in page.edges])


def _has_missing_members(context: SliceContext, group: str, members: IdSet) -> bool:
    with context.open_transaction() as tx:
        return any(
            one not in members
            for some in iterate_live_members(tx, GROUP_MEMBERS, group)
            for one in some
        )


def _finish_group(
    context: SliceContext, group: str, members: IdSet, wrong: ListProblem | None
) -> int:
    """Release a group and record removals of unlisted members; return how many."""
    with context.open_transaction() as tx:
        if wrong is not None:
            _save_problem(context, tx, group, wrong)
            return 0
        missing = 0
        for some in iterate_live_members(tx, GROUP_MEMBERS, group):
            gone = [render_edge_key((group, one)) for one in some if one not in members]
            note_removals(tx, GROUP_MEMBERS, dict.fromkeys(gone, DeletedReason.NOT_SEEN.value))
            missing += len(gone)
        release_quarantined(tx, GROUPS, [group])
        if context.has_unresolved:
            resolve_parts(
                tx, [build_members_part(group), Part(GROUPS.name, PartKind.OBJECT, group)]
            )
    return missing


def _save_problem(context: SliceContext, tx: Transaction, group: str, wrong: ListProblem) -> None:
    """Keep a group whose list is incomplete in quarantine, or as an unanswered part."""
    match wrong:
        case str():
            note_rejects(tx, GROUPS, [(group, wrong)])
            context.has_quarantined[GROUPS.name] = True
        case ResourceRefused() | MalformedResponse() if group in list_quarantined_keys(
            tx, GROUPS.name
        ):
            note_rejects(tx, GROUPS, [(group, f"its members: {wrong.message}")])
        case MirrorError():
            context.save_unresolved(tx, {build_members_part(group): build_unanswered(wrong)})
