"""One page: rows, memberships, events, evidence and the cursor, in one transaction."""

from dataclasses import replace
from typing import Final

from models.resource import Resource
from models.stream import Mode, Phase
from worker.core.crash import crash_point
from worker.core.errors import Restart, Torn
from worker.graph.decode import read_changed
from worker.graph.page import Page
from worker.store.deletions import note_removals, withdraw_removals
from worker.store.edges import edge_key, merge_edges
from worker.store.lease import Transaction
from worker.store.merge import changed_sources, merge_rows
from worker.store.quarantine import met_again, note_faults, note_passed_over, note_rejects
from worker.store.seen import Seen, note_seen
from worker.store.streams import Stream, save_stream
from worker.store.unresolved import resolve, resolve_shown
from worker.store.writing import NotAllNew
from worker.sync.beginnings import beginnings_of_members, beginnings_of_rows
from worker.sync.erased import pass_over
from worker.sync.plan import due_after_round, select_hash
from worker.sync.refused import edges_of, set_apart_refused
from worker.sync.session import Session
from worker.sync.transitions import counted

PAGE_CAP: Final = 100_000
REPEATS: Final = 3
CONFLICT: Final = "came both live and removed in one page; it is read again by its id"


def load_page(session: Session, stream: Stream, page: Page, *, withdraw: bool) -> Stream:
    """Commit a page and the cursor behind it; the stream as it then stands.

    ``withdraw`` says that removals wait: an object which shows up again withdraws its own.
    Raises Fenced, Restart (the walk goes in circles).
    """
    after = _committed(session, stream, page, withdraw=withdraw)
    crash_point("page-committed")
    if after.phase is Phase.SWEEPING:
        crash_point("walk-complete")
    session.tally.pages += 1
    session.tally.rejected += len(page.rejects) + page.passed_over
    session.tally.objects += page.count
    session.progress(stream.name, after.seen_count, "reading")
    return after


def _committed(session: Session, stream: Stream, page: Page, *, withdraw: bool) -> Stream:
    """Commit a page, without the objects that Postgres refuses."""
    hopeful = stream.phase is Phase.LISTING and stream.initial
    try:
        try:
            return _commit(session, stream, page, withdraw=withdraw, hopeful=hopeful)
        except NotAllNew:
            return _commit(session, stream, page, withdraw=withdraw, hopeful=False)
    except Exception as fault:
        if not set_apart_refused(session, stream.resource, page, fault):
            raise
    return _commit(session, stream, page, withdraw=withdraw, hopeful=False)


def _commit(
    session: Session, stream: Stream, page: Page, *, withdraw: bool, hopeful: bool
) -> Stream:
    edges = edges_of(stream.resource)
    with session.writing() as tx:
        _understand(tx, stream.resource, page)
        pass_over(page, stream.resource, session.erased)
        after = _turned(session, stream, page)
        # A group comes with each page that has members of it.
        new_rows = hopeful and edges is None
        begun = beginnings_of_rows(session, tx, stream)
        rows = merge_rows(tx, stream.resource, page.rows, hopeful=new_rows, beginnings=begun)
        changes = [(stream.resource, rows)]
        if edges is not None:
            begun = beginnings_of_members(session, tx, stream)
            some = merge_edges(tx, page.edges, hopeful=hopeful, beginnings=begun)
            changes.append((edges, some))
        session.record_all(tx, changes, initial=stream.initial)
        for resource, some in changes:
            after = counted(after, resource, some)
        if withdraw:
            _withdraw(tx, stream.resource, edges, page)
        _note_removed(tx, stream.resource, edges, page)
        _note_rejects(session, tx, stream, page)
        session.note_unresolved(tx, page.apart)
        if session.unresolved:
            resolve(tx, page.answered)
            listed = stream.phase is Phase.LISTING
            resolve_shown(tx, stream.resource, page.keys, listed=listed)
        if stream.phase is Phase.LISTING:
            _note_seen(tx, stream, edges, page)
        save_stream(tx, stream, after)
        crash_point("page-written")
    return after


def _understand(tx: Transaction, resource: Resource, page: Page) -> None:
    """Read what was left unread and is not what it was."""
    if page.unread:
        sources = {key: unread.source for key, unread in page.unread.items()}
        read_changed(page, resource, changed_sources(tx, resource, sources))


def _withdraw(tx: Transaction, resource: Resource, edges: Resource | None, page: Page) -> None:
    withdraw_removals(tx, resource, page.keys)
    if edges is not None:
        withdraw_removals(tx, edges, [edge_key(pair) for pair in page.edges])


def _note_removed(tx: Transaction, resource: Resource, edges: Resource | None, page: Page) -> None:
    note_removals(tx, resource, page.removed)
    if edges is not None:
        reasons = {edge_key(pair): why for pair, why in page.edges_removed.items()}
        note_removals(tx, edges, reasons)


def _note_rejects(session: Session, tx: Transaction, stream: Stream, page: Page) -> None:
    note_rejects(tx, stream.resource, [(r.key, r.reason) for r in page.rejects])
    note_passed_over(tx, stream.resource, page.passed_over)
    note_rejects(tx, stream.resource, [(key, CONFLICT) for key in sorted(page.conflicts)])
    if session.quarantined.get(stream.name):
        met_again(tx, stream.resource, page.keys)
    if page.faults or session.quarantined.get(stream.name):
        present = {key: one.present for key, one in page.rows.items()}
        note_faults(tx, stream.resource, present, page.faults)
    if page.rejects or page.conflicts or page.faults or page.passed_over:
        session.quarantined[stream.name] = True


def _note_seen(tx: Transaction, stream: Stream, edges: Resource | None, page: Page) -> None:
    everything = (1 << len(stream.resource.columns)) - 1
    told = stream.columns_left_out
    """Of these Graph says nothing at present, which is no reason to clear them."""
    present = [everything] * len(page.same) + [one.present | told for one in page.rows.values()]
    apart = [r.key for r in page.rejects if r.key is not None] + sorted(page.conflicts)
    seen = [Seen(stream.resource, page.keys + apart, present + [everything] * len(apart))]
    if edges is not None and page.edges:
        seen.append(Seen(edges, [edge_key(pair) for pair in page.edges]))
    note_seen(tx, stream.walk_id, stream.page_no, seen)


def _turned(session: Session, stream: Stream, page: Page) -> Stream:
    """The stream's state once this page is committed."""
    repeats = _repeats(stream, page)
    began = session.began if stream.page_no == 0 else stream.walk_started_at
    after = replace(
        stream,
        page_no=stream.page_no + 1,
        next_link=page.next_link,
        seen_count=stream.seen_count + page.count,
        body_digest=page.digest or stream.body_digest,
        body_repeats=repeats,
        loop_mark=_mark(stream, page),
        slow_pages=0,
        incomplete=stream.incomplete or _has_unknown(page),
        walk_started_at=began or session.began,
        reason=stream.reason if stream.is_held else None,
    )
    if stream.phase is Phase.LISTING:
        return _end_of_walk(session, after, page) if page.is_last else after
    return _end_of_round(session, after, page) if page.is_last else after


def _has_unknown(page: Page) -> bool:
    """Whether it is not known of which objects the page told: then absence proves nothing."""
    return page.passed_over > 0 or any(one.key is None for one in page.rejects)


def _end_of_walk(session: Session, after: Stream, page: Page) -> Stream:
    """The durable Complete: phase ``sweeping`` is committed with the last page."""
    brings_delta = after.resource.children and after.mode is not Mode.LIST_ONLY
    if brings_delta and page.delta_link is None:
        raise Torn("Graph ended a delta enumeration without a delta link", after=600)
    ended = replace(after, phase=Phase.SWEEPING, next_link=None)
    if page.delta_link is None:
        return ended
    return replace(
        ended,
        delta_link=page.delta_link,
        delta_link_at=session.began,
        select_hash=select_hash(after.resource, after.left_out or ()),
    )


def _end_of_round(session: Session, after: Stream, page: Page) -> Stream:
    if page.delta_link is None:
        raise Torn("Graph ended a delta round without a delta link", after=600)
    after = replace(
        after,
        walk_id=after.walk_id + 1,
        page_no=0,
        next_link=None,
        delta_link=page.delta_link,
        delta_link_at=session.began,
        seen_count=0,
        loop_mark=None,
        body_digest=None,
        body_repeats=0,
        restarts=0,
        fresh_at=after.walk_started_at,
    )
    interval = session.policy.interval(after)
    due = due_after_round(after, session.began, interval, session.jitter)
    return replace(after, due_at=due)


def _repeats(stream: Stream, page: Page) -> int:
    """How often the same page came in a row. Raises Restart where a walk goes in circles."""
    same = bool(page.digest) and page.digest == stream.body_digest
    repeats = stream.body_repeats + 1 if same else 0
    if page.next_link is None:
        return repeats
    circling = (
        page.next_link in (stream.next_link, stream.loop_mark)
        or repeats >= REPEATS - 1
        or stream.page_no >= PAGE_CAP
    )
    if circling:
        raise Restart("Graph's next links go in circles; the walk is begun again")
    return repeats


def _mark(stream: Stream, page: Page) -> str | None:
    """Brent's rule: remember a link at pages 1, 2, 4, 8 ...; meeting it again is a loop."""
    number = stream.page_no + 1
    return page.next_link if number & (number - 1) == 0 else stream.loop_mark
