"""Reading the members of whole groups, whatever their size, and what that settles.

What was malformed about a group may have told of members that came or went, and a group whose
members Graph did not answer for was left as it was. Both are read with all their members. So is a
group with many memberships that ended with one of their ends and may have come back with it.
"""

from collections.abc import Iterable

from models.resource import DeletedReason
from models.resources.group_members import GROUP_MEMBERS
from models.resources.groups import GROUPS
from models.unresolved import Part, PartKind, Unanswered
from worker.core.errors import Later, Refused, Restart, Torn, Trouble
from worker.core.id_set import IdSet
from worker.graph.links import target_of
from worker.graph.memberships import take_members
from worker.graph.page import Page
from worker.graph.targets import members_target
from worker.nango.reply import Reply
from worker.store.beginnings import NOT_SEEN
from worker.store.deletions import note_removals, withdraw_removals
from worker.store.doubts import returned_members
from worker.store.edges import delete_edges, edge_key, live_members, merge_edges
from worker.store.lease import Transaction
from worker.store.quarantine import note_rejects, quarantined, release
from worker.store.streams import Stream
from worker.store.unresolved import resolve
from worker.sync.beginnings import beginnings_of_returned
from worker.sync.confirm import idle_pages
from worker.sync.erased import pass_over
from worker.sync.members import members_of
from worker.sync.parts import GONE, ask_each, trouble_of, unanswered
from worker.sync.session import Session
from worker.sync.settle import settle_round


def read_whole(session: Session, stream: Stream, groups: Iterable[str]) -> Stream:
    """Read the members of some groups, and release those whose list is understood.

    What a list does not show is a removal like any that a round announces: it waits for the
    last of them, and is held where it is not believable. A list that Graph refuses costs only its
    group. The stream as it then stands.
    """
    groups = list(groups)
    first = ask_each(session.batcher, {group: members_target(group) for group in groups})
    missing = 0
    for group in groups:
        members, wrong = _list_members(session, group, first.pop(group))
        if wrong is None and _missing(session, group, members):
            confirmed, wrong = _list_again(session, group)
            members.update(confirmed)
        missing += _end_list(session, group, members, wrong)
    return settle_round(session, stream) if missing else stream


def read_returned(session: Session, stream: Stream, groups: Iterable[str]) -> None:
    """Read the members of groups with many memberships whose ends have both come back.

    What a list shows is live again, page by page; what it does not show has ended by itself, and
    is not asked for again. A group that is gone has no members. Of one whose list is not whole,
    nothing else changes.
    """
    groups = list(groups)
    first = ask_each(session.batcher, {group: members_target(group) for group in groups})
    for group in groups:
        reply = first.pop(group)
        members, wrong = IdSet(), None
        if reply.status not in GONE:
            members, wrong = _list_members(session, group, reply, began_with=stream)
        if wrong is None:
            _end_unlisted(session, group, members)
        else:
            why = Unanswered(wrong) if isinstance(wrong, str) else unanswered(wrong)
            with session.writing() as tx:
                session.note_unresolved(tx, {members_of(group): why})


def _end_unlisted(session: Session, group: str, members: IdSet) -> None:
    """Give the memberships that did not come back another reason, a batch in each transaction."""
    after: str | None = "00000000-0000-0000-0000-000000000000"
    while after is not None:
        with session.writing() as tx:
            some, after = returned_members(tx, group, after)
            gone = [one for one in some if one not in members]
            reasons = {(group, one): DeletedReason.NOT_SEEN.value for one in gone}
            session.record(tx, GROUP_MEMBERS, delete_edges(tx, reasons), initial=False)


Fault = str | Trouble
"""Why a list of members is not known to be whole: what is malformed, or what Graph answered."""


def _list_again(session: Session, group: str) -> tuple[IdSet, Fault | None]:
    reply = ask_each(session.batcher, {group: members_target(group)})[group]
    return _list_members(session, group, reply)


def _list_members(
    session: Session, group: str, reply: Reply, *, began_with: Stream | None = None
) -> tuple[IdSet, Fault | None]:
    """The ids of a group's members, each page stored as it comes, and what is wrong.

    Only ids are kept, 16 bytes each: 26 MB for 1.2 million members. With ``began_with``, the stream
    of groups, memberships that become live began after its last reading.
    """
    members = IdSet()
    wrong: Fault | None = None
    idle = 0
    while True:
        page, before = Page(), len(members)
        try:
            target = _take_page(page, group, reply)
            for _, member in page.edges:
                members.add(member)
            idle = idle_pages(idle, before, len(members))
        except (Refused, Later, Restart) as trouble:
            return members, trouble
        if page.rejects:
            wrong = page.rejects[0].reason
        _store_members(session, page, began_with)
        if target is None:
            return members, wrong
        reply = ask_each(session.batcher, {group: target})[group]


def _take_page(page: Page, group: str, reply: Reply) -> str | None:
    """Understand a page of members; what to ask next. Raises what an answer means otherwise."""
    trouble = trouble_of(reply, GROUP_MEMBERS.permission)
    if trouble is not None:
        raise trouble
    link = take_members(page, group, reply.body)
    return None if link is None else target_of(link)


def _store_members(session: Session, page: Page, groups: Stream | None) -> None:
    pass_over(page, GROUP_MEMBERS, session.erased)
    with session.writing() as tx:
        began = beginnings_of_returned(session, tx, groups) if groups else NOT_SEEN
        changes = merge_edges(tx, page.edges, beginnings=began)
        session.record(tx, GROUP_MEMBERS, changes, initial=False)
        withdraw_removals(tx, GROUP_MEMBERS, [edge_key(pair) for pair in page.edges])


def _missing(session: Session, group: str, members: IdSet) -> bool:
    with session.writing() as tx:
        return any(one not in members for some in live_members(tx, group) for one in some)


def _end_list(session: Session, group: str, members: IdSet, wrong: Fault | None) -> int:
    """Release a group with what its list does not show; how much that is."""
    with session.writing() as tx:
        if wrong is not None:
            _note(session, tx, group, wrong)
            return 0
        missing = 0
        for some in live_members(tx, group):
            gone = [edge_key((group, one)) for one in some if one not in members]
            note_removals(tx, GROUP_MEMBERS, dict.fromkeys(gone, DeletedReason.NOT_SEEN.value))
            missing += len(gone)
        release(tx, GROUPS, [group])
        if session.unresolved:
            resolve(tx, [members_of(group), Part(GROUPS.name, PartKind.OBJECT, group)])
    return missing


def _note(session: Session, tx: Transaction, group: str, wrong: Fault) -> None:
    """Keep a group apart whose list is not whole: as malformed, or as Graph does not answer."""
    match wrong:
        case str():
            note_rejects(tx, GROUPS, [(group, wrong)])
            session.quarantined[GROUPS.name] = True
        case Refused() | Torn() if group in quarantined(tx, GROUPS.name):
            note_rejects(tx, GROUPS, [(group, f"its members: {wrong.message}")])
        case Trouble():
            session.note_unresolved(tx, {members_of(group): unanswered(wrong)})
