"""What must be asked for again: memberships of ends that came back, and objects set apart.

A restored user's or group's memberships are never revived from memory. The edges that its
deletion ended still say so (reason ``cascade``); as soon as both ends are live again, Graph is
asked, and the answer turns each into a live edge or into one that is gone for good. A group with
many of them is read page by page, see ``whole.py``.

Objects are set apart because they are malformed, or because Graph does not answer for them. What
was malformed about a group may have told of members that came or went. So a quarantined group is
read with all its members, and only then released.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from models.resource import DeletedReason, Resource
from models.resources import RESOURCES, STREAMED
from models.resources.group_members import GROUP_MEMBERS
from models.resources.groups import GROUPS
from models.stream import Phase
from models.unresolved import Part, PartKind, Unanswered
from worker.core.errors import Trouble
from worker.graph.batch import Batcher
from worker.graph.decode import decode_object
from worker.graph.left_out import leave_out
from worker.graph.page import Page
from worker.graph.targets import object_target
from worker.nango.reply import Reply
from worker.store.doubts import LIMIT, latecomers, returned_edges, stranger_edges
from worker.store.edges import Pair, delete_edges, edge_key, merge_edges, pair_of
from worker.store.lease import Transaction
from worker.store.merge import stored_rows
from worker.store.quarantine import (
    due_again,
    quarantined,
)
from worker.store.streams import Stream, load_streams, save_stream
from worker.store.unresolved import due_parts, resolve, resolve_moot
from worker.sync.beginnings import beginnings_of_returned
from worker.sync.by_id import take_objects
from worker.sync.confirm import existing, read_member_of
from worker.sync.erased import living
from worker.sync.parts import GONE, ask_each, trouble_of, unanswered
from worker.sync.session import Session
from worker.sync.settle import settle_round

MANY = 20
"""Memberships of one group from which on the group is read, rather than each member."""


@dataclass
class Doubts:
    """What is not certain.

    Memberships of ends that came back and of members that are not mirrored, by pair; users that
    were restored before they were ever seen; objects set apart by resource, with their addresses.
    ``parts`` says which of those Graph did not answer for, by resource, and what of them;
    ``groups`` are those whose members it did not show.
    """

    edges: dict[Pair, str] = field(default_factory=dict)
    strangers: dict[Pair, str] = field(default_factory=dict)
    latecomers: list[str] = field(default_factory=list)
    checked: int = 0
    objects: dict[str, dict[str, str]] = field(default_factory=dict)
    parts: dict[str, dict[str, PartKind]] = field(default_factory=dict)
    groups: list[str] = field(default_factory=list)
    left_out: dict[str, Sequence[str]] = field(default_factory=dict)
    """Properties that the tenant's Graph does not know, by resource."""

    def __bool__(self) -> bool:
        some = self.edges or self.strangers or self.latecomers or self.objects or self.groups
        return bool(some)


@dataclass
class Answers:
    """What Graph said about them; a key without an object is gone, or Graph did not answer."""

    edges: dict[str, str] = field(default_factory=dict)
    crowded: set[str] = field(default_factory=set)
    """Groups whose own lists have to tell of the memberships in doubt."""
    gone: set[str] = field(default_factory=set)
    objects: dict[str, dict[str, Page | Unanswered | None]] = field(default_factory=dict)
    apart: dict[Part, Unanswered] = field(default_factory=dict)
    answered: list[Part] = field(default_factory=list)


def find_doubts(session: Session, streams: Mapping[str, Stream]) -> Doubts:
    """What to ask again, once no walk that might answer it is under way."""
    doubts = Doubts()
    with session.reading() as tx:
        if session.unresolved:
            resolve_moot(tx)
        if all(_settled(streams[name]) for name in ("users", "groups")):
            _find_memberships(session, tx, streams["groups"].checked_seq, doubts)
        for resource in STREAMED:
            _find_objects(session, tx, streams[resource.name], doubts)
    return doubts


def _find_memberships(session: Session, tx: Transaction, since: int, doubts: Doubts) -> None:
    doubts.edges = returned_edges(tx)
    doubts.checked = tx.seq
    if tx.seq > since:
        doubts.strangers = stranger_edges(tx, since)
        doubts.latecomers = latecomers(tx, since)
    if session.unresolved:
        now = session.order.manual
        doubts.groups = list(due_parts(tx, GROUPS.name, PartKind.MEMBERS, whenever=now))
        doubts.latecomers += due_parts(tx, "users", PartKind.MEMBER_OF, whenever=now)


def _find_objects(session: Session, tx: Transaction, stream: Stream, doubts: Doubts) -> None:
    resource, now = stream.resource, session.order.manual
    keys: list[str] = []
    if session.quarantined.get(resource.name) and (not resource.children or _settled(stream)):
        keys += due_again(tx, resource, whenever=now)
    if session.unresolved and _settled(stream):
        kinds = (PartKind.OBJECT, PartKind.UNLISTED)
        parts = due_parts(tx, resource.name, *kinds, whenever=now)
        doubts.parts[resource.name] = {k: kind for k, kind in parts.items() if k not in keys}
        keys += doubts.parts[resource.name]
    if keys:
        doubts.objects[resource.name] = _addresses(tx, resource, keys)
        doubts.left_out[resource.name] = stream.left_out or ()


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
    """Read them all. Touches no database. Raises Later where nothing can be read now."""
    answers = Answers()
    _ask_memberships(batcher, doubts, answers)
    _ask_strangers(batcher, doubts, answers)
    for name, addresses in doubts.objects.items():
        resource = RESOURCES[name]
        without = doubts.left_out.get(name, ())
        targets = {
            k: object_target(resource, a, whole=True, without=without) for k, a in addresses.items()
        }
        replies = ask_each(batcher, targets)
        pages = {key: _object(resource, one) for key, one in replies.items()}
        for page in pages.values():
            if isinstance(page, Page):
                leave_out(page, resource, resource.columns_of(without))
        answers.objects[name] = pages
    return answers


def _ask_memberships(batcher: Batcher, doubts: Doubts, answers: Answers) -> None:
    """Ask each member for its groups, unless the lists of these have to be read anyway."""
    crowded = _crowded(doubts.edges)
    kinds = {pair[1]: kind for pair, kind in doubts.edges.items() if pair[0] not in crowded}
    found = read_member_of(batcher, dict.fromkeys(doubts.latecomers, "user") | kinds)
    silent = found.others | found.unknown.keys()
    answers.crowded = crowded | {group for group, member in doubts.edges if member in silent}
    answers.edges = found.edges
    for one in doubts.latecomers:
        part = Part("users", PartKind.MEMBER_OF, one)
        if one in found.unknown:
            answers.apart[part] = found.unknown[one]
        else:
            answers.answered.append(part)


def _ask_strangers(batcher: Batcher, doubts: Doubts, answers: Answers) -> None:
    """Which users and groups that are not mirrored Graph does not have."""
    for name in ("users", "groups"):
        keys = [member for (_, member), kind in doubts.strangers.items() if f"{kind}s" == name]
        if keys:
            found = existing(batcher, RESOURCES[name], keys)
            answers.gone |= set(keys) - found.present - found.unknown.keys()
            for key, why in found.unknown.items():
                answers.apart[Part(name, PartKind.OBJECT, key)] = why


def _crowded(pairs: Iterable[Pair]) -> set[str]:
    counts: dict[str, int] = {}
    for group_id, _ in pairs:
        counts[group_id] = counts.get(group_id, 0) + 1
    return {group_id for group_id, number in counts.items() if number > MANY}


def _object(resource: Resource, reply: Reply) -> Page | Unanswered | None:
    if reply.status in GONE:
        return None
    trouble = trouble_of(reply, resource.permission)
    try:
        return decode_object(resource, reply.body) if trouble is None else unanswered(trouble)
    except Trouble as unreadable:
        return unanswered(unreadable)


def take_answers(
    session: Session, doubts: Doubts, answers: Answers, streams: dict[str, Stream]
) -> list[str]:
    """Store what Graph said; the groups that are to be read with all their members."""
    _take_memberships(session, doubts, answers, streams["groups"])
    if doubts.strangers:
        ended = dict.fromkeys(doubts.strangers, DeletedReason.CASCADE.value)
        ended = {pair: why for pair, why in ended.items() if pair[1] in answers.gone}
        with session.writing() as tx:
            session.record(tx, GROUP_MEMBERS, delete_edges(tx, ended), initial=False)
    for name, found in answers.objects.items():
        if take_objects(session, RESOURCES[name], found, doubts.parts.get(name, {})):
            streams[name] = settle_round(session, streams[name])
    groups = answers.objects.get(GROUPS.name, {})
    there = {key for key, page in groups.items() if isinstance(page, Page) and not page.rejects}
    if not there:
        return sorted(doubts.groups)
    with session.reading() as tx:
        apart = quarantined(tx, GROUPS.name) | doubts.parts.get(GROUPS.name, {}).keys()
    return sorted(there & apart | set(doubts.groups))


def _take_memberships(session: Session, doubts: Doubts, answers: Answers, groups: Stream) -> None:
    """A membership ends where its member's list lacks it."""
    if not (doubts.edges or answers.edges or answers.apart or answers.answered):
        return
    with session.writing() as tx:
        alive = {pair_of(key): kind for key, kind in answers.edges.items()}
        alive = living(alive, session.erased)
        began = beginnings_of_returned(session, tx, groups)
        changes = merge_edges(tx, alive, beginnings=began)
        session.record(tx, GROUP_MEMBERS, changes, initial=False)
        gone = {
            pair: DeletedReason.NOT_SEEN.value
            for pair in doubts.edges
            if edge_key(pair) not in answers.edges and pair[0] not in answers.crowded
        }
        session.record(tx, GROUP_MEMBERS, delete_edges(tx, gone), initial=False)
        session.note_unresolved(tx, answers.apart)
        if session.unresolved:
            resolve(tx, answers.answered)


def note_checked(session: Session, groups: Stream, doubts: Doubts) -> None:
    """Remember how far memberships have been checked; not where there were too many at once."""
    if doubts.checked > groups.checked_seq and len(doubts.strangers) < LIMIT:
        with session.writing() as tx:
            now = load_streams(tx.connection, tx.connection_id)[groups.name]
            save_stream(tx, now, replace(now, checked_seq=doubts.checked))
