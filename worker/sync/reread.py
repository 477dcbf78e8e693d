"""What must be asked for again: memberships of ends that came back, and quarantined objects.

A restored user's or group's memberships are never revived from memory. The edges that its
deletion ended still say so (reason ``cascade``); as soon as both ends are live again, Graph is
asked, and the answer turns each into a live edge or into one that is gone for good.

What was malformed about a group may have told of members that came or went. So a quarantined
group is read with all its members, and only then released.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from models.resource import DeletedReason, Resource
from models.resources import RESOURCES, STREAMED
from models.resources.group_members import GROUP_MEMBERS
from models.resources.groups import GROUPS
from models.stream import Phase
from worker.core.errors import Refused, Torn
from worker.graph.batch import Batcher
from worker.graph.decode import decode_object
from worker.graph.links import target_of
from worker.graph.memberships import take_members
from worker.graph.page import Page
from worker.graph.targets import members_target, object_target
from worker.graph.verdict import graph_trouble
from worker.nango.reply import Reply
from worker.store.deletions import delete_objects, note_removals, withdraw_removals
from worker.store.doubts import LIMIT, latecomers, returned_edges, stranger_edges
from worker.store.edges import (
    Pair,
    delete_edges,
    edge_key,
    live_members,
    merge_edges,
    pair_of,
)
from worker.store.lease import Transaction
from worker.store.merge import merge_rows, stored_rows
from worker.store.quarantine import due_again, note_rejects, release
from worker.store.streams import Stream, load_streams, save_stream
from worker.sync.confirm import existing, idle_pages, read_member_of, read_members
from worker.sync.erased import living, pass_over
from worker.sync.session import Session
from worker.sync.settle import settle_round

MANY = 20
"""Memberships of one group from which on the group is read, rather than each member."""


@dataclass
class Doubts:
    """What is not certain.

    Memberships of ends that came back and of members that are not mirrored, by pair; users that
    were restored before they were ever seen; quarantined keys by resource, with their addresses.
    """

    edges: dict[Pair, str] = field(default_factory=dict)
    strangers: dict[Pair, str] = field(default_factory=dict)
    latecomers: list[str] = field(default_factory=list)
    checked: int = 0
    objects: dict[str, dict[str, str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.edges or self.strangers or self.latecomers or self.objects)


@dataclass
class Answers:
    """What Graph said about them; a key without an object is gone."""

    edges: dict[str, str] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    objects: dict[str, dict[str, Page | None]] = field(default_factory=dict)


def find_doubts(session: Session, streams: Mapping[str, Stream]) -> Doubts:
    """What to ask again, once no walk that might answer it is under way."""
    doubts = Doubts()
    with session.reading() as tx:
        if all(_settled(streams[name]) for name in ("users", "groups")):
            doubts.edges = returned_edges(tx)
            doubts.checked = tx.seq
            since = streams["groups"].checked_seq
            if tx.seq > since:
                doubts.strangers = stranger_edges(tx, since)
                doubts.latecomers = latecomers(tx, since)
        for resource in STREAMED:
            if not session.quarantined.get(resource.name):
                continue
            if resource.children and not _settled(streams[resource.name]):
                continue
            keys = due_again(tx, resource, whenever=session.order.manual)
            if keys:
                doubts.objects[resource.name] = _addresses(tx, resource, keys)
    return doubts


def _settled(stream: Stream) -> bool:
    """Complete before, and nothing under way now."""
    resting = stream.phase in (Phase.DELTA, Phase.READY, Phase.HELD)
    return resting and stream.next_link is None and not stream.initial


def _addresses(tx: Transaction, resource: Resource, keys: list[str]) -> dict[str, str]:
    if resource.address in resource.key:
        return {key: key for key in keys}
    position = resource.column_names.index(resource.address)
    stored = stored_rows(tx, resource, keys)
    return {key: (stored[key].row[position] if key in stored else None) or key for key in keys}


def ask(batcher: Batcher, doubts: Doubts) -> Answers:
    """Read them all. Touches no database. Raises Later where Graph does not say."""
    answers = Answers()
    crowded = _crowded(doubts.edges)
    members = sorted({m for g, m in doubts.edges if g not in crowded})
    kinds = {pair[1]: kind for pair, kind in doubts.edges.items()}
    asked = {m: kinds[m] for m in members} | dict.fromkeys(doubts.latecomers, "user")
    found, unknown = read_member_of(batcher, asked)
    answers.edges |= found
    crowded |= {g for g, m in doubts.edges if m in unknown}
    answers.edges |= read_members(batcher, sorted(crowded))
    answers.gone = _gone(batcher, {m: kind for (_, m), kind in doubts.strangers.items()})
    for name, addresses in doubts.objects.items():
        resource = RESOURCES[name]
        targets = {k: object_target(resource, a, whole=True) for k, a in addresses.items()}
        replies = batcher.get_all(targets)
        answers.objects[name] = {key: _object(resource, one) for key, one in replies.items()}
    return answers


def _gone(batcher: Batcher, members: Mapping[str, str]) -> set[str]:
    """The users and groups (id to member type) that Graph does not have."""
    there: set[str] = set()
    for name in ("users", "groups"):
        keys = [one for one, kind in members.items() if f"{kind}s" == name]
        there |= existing(batcher, RESOURCES[name], keys, {}) if keys else set()
    return members.keys() - there


def _crowded(pairs: Iterable[Pair]) -> set[str]:
    counts: dict[str, int] = {}
    for group_id, _ in pairs:
        counts[group_id] = counts.get(group_id, 0) + 1
    return {group_id for group_id, number in counts.items() if number > MANY}


def _object(resource: Resource, reply: Reply) -> Page | None:
    trouble = graph_trouble(reply, time.time(), resource.permission)
    if isinstance(trouble, Refused) and trouble.status == 404:
        return None
    if trouble is not None:
        raise trouble
    return decode_object(resource, reply.body)


def take_answers(session: Session, doubts: Doubts, answers: Answers) -> list[str]:
    """Store what Graph said; the quarantined groups that are there, to be read with members."""
    if doubts.edges or answers.edges:
        with session.writing() as tx:
            doubtful = {pair: edge_key(pair) for pair in doubts.edges}
            alive = {pair_of(key): kind for key, kind in answers.edges.items()}
            alive = living(alive, session.erased)
            session.record(tx, GROUP_MEMBERS, merge_edges(tx, alive), initial=False)
            gone = {
                pair: DeletedReason.NOT_SEEN.value
                for pair, key in doubtful.items()
                if key not in answers.edges
            }
            session.record(tx, GROUP_MEMBERS, delete_edges(tx, gone), initial=False)
    if doubts.strangers:
        ended = dict.fromkeys(doubts.strangers, DeletedReason.CASCADE.value)
        ended = {pair: why for pair, why in ended.items() if pair[1] in answers.gone}
        with session.writing() as tx:
            session.record(tx, GROUP_MEMBERS, delete_edges(tx, ended), initial=False)
    for name, pages in answers.objects.items():
        _take_objects(session, RESOURCES[name], pages)
    groups = answers.objects.get(GROUPS.name, {})
    return [key for key, page in groups.items() if page is not None and not page.rejects]


def note_checked(session: Session, groups: Stream, doubts: Doubts) -> None:
    """Remember how far memberships have been checked; not where there were too many at once."""
    if doubts.checked > groups.checked_seq and len(doubts.strangers) < LIMIT:
        with session.writing() as tx:
            now = load_streams(tx.connection, tx.connection_id)[groups.name]
            save_stream(tx, now, replace(now, checked_seq=doubts.checked))


def _take_objects(session: Session, resource: Resource, pages: Mapping[str, Page | None]) -> None:
    with session.writing() as tx:
        for key, page in pages.items():
            if page is None:
                gone = {key: DeletedReason.NOT_SEEN.value}
                for of, changes in delete_objects(tx, resource, gone):
                    session.record(tx, of, changes, initial=False)
                release(tx, resource, [key])
            elif page.rejects:
                note_rejects(tx, resource, [(key, page.rejects[0].reason)])
            else:
                pass_over(page, resource, session.erased)
                changes = merge_rows(tx, resource, page.rows)
                session.record(tx, resource, changes, initial=False)
                if not resource.children:
                    release(tx, resource, [key])


def read_whole(session: Session, stream: Stream, groups: list[str]) -> Stream:
    """Read the members of quarantined groups, and release those whose list is understood.

    What a list does not show is a removal like any that a round announces: it waits for the
    last of them, and is held where it is not believable. The stream as it then stands.
    """
    first = session.batcher.get_all({group: members_target(group) for group in groups})
    missing = 0
    for group in groups:
        members, wrong = _list_members(session, group, first.pop(group))
        if not wrong and _missing(session, group, members):
            reply = session.batcher.get(members_target(group))
            confirmed, wrong = _list_members(session, group, reply)
            members |= confirmed
        missing += _end_list(session, group, members, wrong)
    return settle_round(session, stream) if missing else stream


def _list_members(session: Session, group: str, reply: Reply) -> tuple[set[str], str]:
    """The ids of a group's members, each page stored as it comes, and what is malformed.

    Only ids are kept, so the size of a group does not matter.
    """
    members: set[str] = set()
    wrong, idle = "", 0
    while True:
        page, before = Page(), len(members)
        try:
            target = _take_page(page, group, reply)
            members.update(member for _, member in page.edges)
            idle = idle_pages(idle, before, len(members))
        except (Refused, Torn) as trouble:
            return members, f"its members: {trouble.message}"
        if page.rejects:
            wrong = page.rejects[0].reason
        _store_members(session, page)
        if target is None:
            return members, wrong
        reply = session.batcher.get(target)


def _take_page(page: Page, group: str, reply: Reply) -> str | None:
    """Understand a page of members; what to ask next. Raises what an answer means otherwise."""
    trouble = graph_trouble(reply, time.time(), GROUP_MEMBERS.permission)
    if trouble is not None:
        raise trouble
    link = take_members(page, group, reply.body)
    return None if link is None else target_of(link)


def _store_members(session: Session, page: Page) -> None:
    pass_over(page, GROUP_MEMBERS, session.erased)
    with session.writing() as tx:
        session.record(tx, GROUP_MEMBERS, merge_edges(tx, page.edges), initial=False)
        withdraw_removals(tx, GROUP_MEMBERS, [edge_key(pair) for pair in page.edges])


def _missing(session: Session, group: str, members: set[str]) -> bool:
    with session.writing() as tx:
        return not live_members(tx, group) <= members


def _end_list(session: Session, group: str, members: set[str], wrong: str) -> int:
    """Release a group with what its list does not show; how much that is."""
    with session.writing() as tx:
        if wrong:
            note_rejects(tx, GROUPS, [(group, wrong)])
            return 0
        missing = live_members(tx, group) - members
        reason = DeletedReason.NOT_SEEN.value
        note_removals(tx, GROUP_MEMBERS, {edge_key((group, one)): reason for one in missing})
        release(tx, GROUPS, [group])
    return len(missing)
