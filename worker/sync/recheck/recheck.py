"""Recheck memberships of restored ends, and quarantined or unanswered objects.

Memberships of a restored user or group are never revived from stored rows. The edges that its
deletion ended have the reason ``cascade``; once both ends are live again, Graph is asked, and its
response makes each edge live or ends it. A group with many such edges is read page by page
(``groups.py``).

Objects are quarantined because they are malformed, or unanswered because Graph gave no answer. A
malformed group object may have announced member changes, so a quarantined group is read with all
its members and only then released.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from models.resource import DeletedReason, Resource
from models.resources import RESOURCES, STREAMED
from models.resources.group_members import GROUP_MEMBERS
from models.resources.groups import GROUPS
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
from worker.sync.recheck.groups import recheck_groups, recheck_restored_groups
from worker.sync.recheck.objects import store_objects
from worker.sync.sources.by_id import GONE_STATUSES, find_existing
from worker.sync.sources.member_lists import fetch_member_groups
from worker.sync.sources.partial_failures import build_unanswered, error_from_response, fetch_each

MAX_MEMBERS_ASKED = 20
"""Most memberships of one group that are read per member; beyond, the group is read."""


@dataclass
class Recheck:
    """The memberships and objects that are uncertain.

    Memberships of restored ends and of members that are not mirrored, by pair; users restored
    before they were ever mirrored; addresses of quarantined and unanswered objects, by resource.
    ``unresolved_kinds`` names the part of each unanswered one; ``unresolved_groups`` are groups
    whose members Graph did not answer for.
    """

    restored_edges: dict[Pair, str] = field(default_factory=dict)
    unknown_members: dict[Pair, str] = field(default_factory=dict)
    restored_unseen_users: list[str] = field(default_factory=list)
    checked_seq: int = 0
    object_addresses: dict[str, dict[str, str]] = field(default_factory=dict)
    unresolved_kinds: dict[str, dict[str, PartKind]] = field(default_factory=dict)
    unresolved_groups: list[str] = field(default_factory=list)
    left_out: dict[str, Sequence[str]] = field(default_factory=dict)
    """Properties that the tenant's Graph does not know, by resource."""

    def __bool__(self) -> bool:
        some = (
            self.restored_edges
            or self.unknown_members
            or self.restored_unseen_users
            or self.object_addresses
            or self.unresolved_groups
        )
        return bool(some)


@dataclass
class RecheckAnswers:
    """The answers from Graph; a key without an object is deleted or unanswered."""

    edges: dict[str, str] = field(default_factory=dict)
    groups_to_list: set[str] = field(default_factory=set)
    """Groups whose own lists must be read for the uncertain memberships."""
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
        if all(_is_at_rest(streams[name]) for name in ("users", "groups")):
            _load_memberships(context, tx, streams["groups"].checked_seq, doubts)
        for resource in STREAMED:
            _load_objects(context, tx, streams[resource.name], doubts)
    return doubts


def _load_memberships(context: SliceContext, tx: Transaction, since: int, doubts: Recheck) -> None:
    doubts.restored_edges = list_restored_endpoint_edges(tx, GROUP_MEMBERS)
    doubts.checked_seq = tx.seq
    if tx.seq > since:
        doubts.unknown_members = list_unknown_member_edges(tx, GROUP_MEMBERS, since)
        doubts.restored_unseen_users = list_restored_unseen_members(tx, GROUP_MEMBERS, since)
    if context.has_unresolved:
        now = context.request.manual
        doubts.unresolved_groups = list(
            list_due_parts(tx, GROUPS.name, PartKind.MEMBERS, ignore_pauses=now)
        )
        doubts.restored_unseen_users += list_due_parts(
            tx, "users", PartKind.MEMBER_OF, ignore_pauses=now
        )


def _load_objects(context: SliceContext, tx: Transaction, stream: Stream, doubts: Recheck) -> None:
    resource, now = stream.resource, context.request.manual
    keys: list[str] = []
    if context.has_quarantined.get(resource.name) and (
        not resource.relations or _is_at_rest(stream)
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
        doubts.left_out[resource.name] = stream.left_out or ()


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
    _fetch_memberships(client, doubts, answers)
    _fetch_unknown_members(client, doubts, answers)
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


def _fetch_memberships(client: GraphClient, doubts: Recheck, answers: RecheckAnswers) -> None:
    """Read each member's groups, except for groups whose lists have to be read anyway."""
    crowded = _find_large_groups(doubts.restored_edges)
    kinds = {
        pair[1]: kind for pair, kind in doubts.restored_edges.items() if pair[0] not in crowded
    }
    found = fetch_member_groups(client, dict.fromkeys(doubts.restored_unseen_users, "user") | kinds)
    silent = found.unlisted_members | found.unknown.keys()
    answers.groups_to_list = crowded | {
        group for group, member in doubts.restored_edges if member in silent
    }
    answers.edges = found.edges
    for one in doubts.restored_unseen_users:
        part = Part("users", PartKind.MEMBER_OF, one)
        if one in found.unknown:
            answers.unanswered[part] = found.unknown[one]
        else:
            answers.answered_parts.append(part)


def _fetch_unknown_members(client: GraphClient, doubts: Recheck, answers: RecheckAnswers) -> None:
    """Find the users and groups that are neither mirrored nor in Graph."""
    for name in ("users", "groups"):
        keys = [
            member for (_, member), kind in doubts.unknown_members.items() if f"{kind}s" == name
        ]
        if keys:
            found = find_existing(client, RESOURCES[name], keys)
            answers.gone_members |= set(keys) - found.present - found.unknown.keys()
            for key, why in found.unknown.items():
                answers.unanswered[Part(name, PartKind.OBJECT, key)] = why


def _find_large_groups(pairs: Iterable[Pair]) -> set[str]:
    counts: dict[str, int] = {}
    for group_id, _ in pairs:
        counts[group_id] = counts.get(group_id, 0) + 1
    return {group_id for group_id, number in counts.items() if number > MAX_MEMBERS_ASKED}


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
) -> list[str]:
    """Store the answers; return the groups to read with all their members."""
    _store_memberships(context, doubts, answers, streams["groups"])
    if doubts.unknown_members:
        ended = dict.fromkeys(doubts.unknown_members, DeletedReason.CASCADE.value)
        ended = {pair: why for pair, why in ended.items() if pair[1] in answers.gone_members}
        with context.open_transaction() as tx:
            context.append_events(
                tx, GROUP_MEMBERS, delete_edges(tx, GROUP_MEMBERS, ended), is_initial=False
            )
    for name, objects in answers.objects.items():
        if store_objects(context, RESOURCES[name], objects, doubts.unresolved_kinds.get(name, {})):
            streams[name] = apply_round_removals(context, streams[name])
    groups = answers.objects.get(GROUPS.name, {})
    there = {key for key, page in groups.items() if isinstance(page, Page) and not page.rejects}
    if not there:
        return sorted(doubts.unresolved_groups)
    with context.open_read_transaction() as tx:
        apart = (
            list_quarantined_keys(tx, GROUPS.name)
            | doubts.unresolved_kinds.get(GROUPS.name, {}).keys()
        )
    return sorted(there & apart | set(doubts.unresolved_groups))


def _store_memberships(
    context: SliceContext, doubts: Recheck, answers: RecheckAnswers, groups: Stream
) -> None:
    """Store the rechecked memberships; end those that the member's list lacks."""
    if not (doubts.restored_edges or answers.edges or answers.unanswered or answers.answered_parts):
        return
    with context.open_transaction() as tx:
        alive = {parse_edge_key(key): kind for key, kind in answers.edges.items()}
        alive = without_erased(alive, context.erased)
        began = find_restored_live_since(context, tx, groups)
        changes = merge_edges(tx, GROUP_MEMBERS, alive, live_since=began)
        context.append_events(tx, GROUP_MEMBERS, changes, is_initial=False)
        gone = {
            pair: DeletedReason.NOT_SEEN.value
            for pair in doubts.restored_edges
            if render_edge_key(pair) not in answers.edges and pair[0] not in answers.groups_to_list
        }
        context.append_events(
            tx, GROUP_MEMBERS, delete_edges(tx, GROUP_MEMBERS, gone), is_initial=False
        )
        context.save_unresolved(tx, answers.unanswered)
        if context.has_unresolved:
            resolve_parts(tx, answers.answered_parts)


def save_checked_seq(context: SliceContext, groups: Stream, doubts: Recheck) -> None:
    """Save up to where memberships were checked, unless there were too many at once."""
    if doubts.checked_seq > groups.checked_seq and len(doubts.unknown_members) < RECHECK_BATCH:
        with context.open_transaction() as tx:
            now = load_streams(tx.db, tx.connection_id)[groups.name]
            save_stream(tx, now, replace(now, checked_seq=doubts.checked_seq))


def run_recheck(context: SliceContext, streams: dict[str, Stream]) -> dict[str, MirrorError]:
    doubts = load_recheck(context, streams)
    try:
        if doubts:
            answers = fetch_answers(context.client, doubts)
            groups = store_answers(context, doubts, answers, streams)
            recheck_restored_groups(context, streams["groups"], sorted(answers.groups_to_list))
            streams["groups"] = recheck_groups(context, streams["groups"], groups)
        save_checked_seq(context, streams["groups"], doubts)
    except StorageFull:
        raise
    except (RetryLater, ResourceRefused, CursorExpired) as error:
        return {error.resource or "group_members": error}
    return {}
