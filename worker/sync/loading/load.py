"""Load one page: rows, memberships, events, evidence and cursor, in one transaction."""

from dataclasses import replace
from typing import Final

from models.resource import Resource
from models.stream import Phase
from worker.core.errors import CursorExpired, MalformedResponse
from worker.core.process.failpoints import hit_failpoint
from worker.graph.decode import decode_changed
from worker.graph.page import Page
from worker.rows.incoming import EncodedRows, clear_columns
from worker.store.lease import Transaction
from worker.store.mirror.edges import merge_edges, render_edge_key
from worker.store.mirror.merge import find_changed_keys, merge_rows
from worker.store.mirror.write import RowExists
from worker.store.state.quarantine import note_faults, note_reappeared, note_rejects, note_unread
from worker.store.state.streams import Stream, save_stream
from worker.store.state.unresolved import resolve_objects, resolve_parts
from worker.store.sweep.removals import note_removals, withdraw_removals
from worker.store.sweep.seen import SeenKeys, note_seen
from worker.sync.context import SliceContext
from worker.sync.loading.erased_filter import drop_erased
from worker.sync.loading.live_since import find_members_live_since, find_rows_live_since
from worker.sync.loading.rejected_rows import find_edge_resource, quarantine_rejected_rows
from worker.sync.plan import compute_due_after_round, compute_select_hash
from worker.sync.state import add_drift

MAX_PAGES: Final = 100_000
MAX_REPEATS: Final = 3
CONFLICT_REASON: Final = "came both live and removed in one page; it is read again by its id"


def load_page(
    context: SliceContext,
    stream: Stream,
    page: Page,
    encoded: EncodedRows,
    *,
    has_pending_removals: bool,
) -> Stream:
    """Commit a page and its cursor; return the stream after it.

    ``encoded`` has the rows that were encoded while the page was fetched. With
    ``has_pending_removals``, an object that reappears withdraws its pending removal. Raises
    LeaseLost, CursorExpired (the next links form a loop).
    """
    after = _commit_or_quarantine(context, stream, page, encoded, withdraw=has_pending_removals)
    hit_failpoint("page-committed")
    if after.phase is Phase.SWEEPING:
        hit_failpoint("walk-complete")
    context.tally.pages += 1
    context.tally.rejected += len(page.rejects) + page.skipped
    context.tally.objects += page.count
    context.on_progress(stream.name, after.seen_count, "reading")
    return after


def _commit_or_quarantine(
    context: SliceContext,
    stream: Stream,
    page: Page,
    encoded: EncodedRows,
    *,
    withdraw: bool,
) -> Stream:
    """Commit a page without the objects that Postgres refuses."""
    hopeful = stream.phase is Phase.LISTING and stream.is_initial
    try:
        try:
            return _commit(context, stream, page, encoded, withdraw=withdraw, assume_new=hopeful)
        except RowExists:
            return _commit(context, stream, page, encoded, withdraw=withdraw, assume_new=False)
    except Exception as error:
        if not quarantine_rejected_rows(context, stream.resource, page, error):
            raise
    return _commit(context, stream, page, encoded, withdraw=withdraw, assume_new=False)


def _commit(
    context: SliceContext,
    stream: Stream,
    page: Page,
    encoded: EncodedRows,
    *,
    withdraw: bool,
    assume_new: bool,
) -> Stream:
    edges = find_edge_resource(stream.resource)
    with context.open_transaction() as tx:
        _decode_changed(tx, stream, page)
        drop_erased(page, stream.resource, context.erased)
        after = advance_page(context, stream, page)
        # A group is repeated on each page that has some of its members.
        new_rows = assume_new and edges is None
        begun = find_rows_live_since(context, tx, stream)
        rows = merge_rows(
            tx,
            stream.resource,
            page.rows,
            encoded=encoded,
            assume_new=new_rows,
            live_since=begun,
        )
        changes = [(stream.resource, rows)]
        if edges is not None:
            begun = find_members_live_since(context, tx, stream)
            some = merge_edges(tx, page.edges, assume_new=assume_new, live_since=begun)
            changes.append((edges, some))
        context.append_all_events(tx, changes, initial=stream.is_initial)
        for resource, some in changes:
            after = add_drift(after, resource, some)
        if withdraw:
            _withdraw_reappeared(tx, stream.resource, edges, page)
        _save_removals(tx, stream.resource, edges, page)
        _note_rejects(context, tx, stream, page)
        context.save_unresolved(tx, page.unanswered_parts)
        if context.has_unresolved:
            resolve_parts(tx, page.answered_parts)
            listed = stream.phase is Phase.LISTING
            resolve_objects(tx, stream.resource, page.keys, listed=listed)
        if stream.phase is Phase.LISTING:
            _note_seen(tx, stream, edges, page)
        save_stream(tx, stream, after)
        hit_failpoint("page-written")
    return after


def _decode_changed(tx: Transaction, stream: Stream, page: Page) -> None:
    """Decode the objects whose source has changed; the others were left undecoded."""
    if page.undecoded:
        sources = {key: unread.source_hash for key, unread in page.undecoded.items()}
        decode_changed(page, stream.resource, find_changed_keys(tx, stream.resource, sources))
        if stream.left_out:
            clear_columns(page.rows, stream.resource, stream.left_out_columns)


def _withdraw_reappeared(
    tx: Transaction, resource: Resource, edges: Resource | None, page: Page
) -> None:
    withdraw_removals(tx, resource, page.keys)
    if edges is not None:
        withdraw_removals(tx, edges, [render_edge_key(pair) for pair in page.edges])


def _save_removals(tx: Transaction, resource: Resource, edges: Resource | None, page: Page) -> None:
    note_removals(tx, resource, page.removed)
    if edges is not None:
        reasons = {render_edge_key(pair): why for pair, why in page.removed_edges.items()}
        note_removals(tx, edges, reasons)


def _note_rejects(context: SliceContext, tx: Transaction, stream: Stream, page: Page) -> None:
    note_rejects(tx, stream.resource, [(r.key, r.reason) for r in page.rejects])
    note_unread(tx, stream.resource, page.skipped)
    note_rejects(tx, stream.resource, [(key, CONFLICT_REASON) for key in sorted(page.conflicts)])
    if context.has_quarantined.get(stream.name):
        note_reappeared(tx, stream.resource, page.keys)
    if page.faults or context.has_quarantined.get(stream.name):
        present = {key: one.present for key, one in page.rows.items()}
        note_faults(tx, stream.resource, present, page.faults)
    if page.rejects or page.conflicts or page.faults or page.skipped:
        context.has_quarantined[stream.name] = True


def _note_seen(tx: Transaction, stream: Stream, edges: Resource | None, page: Page) -> None:
    everything = (1 << len(stream.resource.columns)) - 1
    left_out = stream.left_out_columns
    """Left-out columns count as sent: their absence is no reason to clear them."""
    present = [everything] * len(page.unchanged) + [
        one.present | left_out for one in page.rows.values()
    ]
    apart = [r.key for r in page.rejects if r.key is not None] + sorted(page.conflicts)
    seen = [SeenKeys(stream.resource, page.keys + apart, present + [everything] * len(apart))]
    if edges is not None and page.edges:
        seen.append(SeenKeys(edges, [render_edge_key(pair) for pair in page.edges]))
    note_seen(tx, stream.walk_id, stream.page_no, seen)


def advance_page(context: SliceContext, stream: Stream, page: Page) -> Stream:
    """Return the stream's state after this page is committed."""
    repeats = count_repeats(stream, page)
    began = context.started_at if stream.page_no == 0 else stream.walk_started_at
    after = replace(
        stream,
        page_no=stream.page_no + 1,
        next_link=page.next_link,
        seen_count=stream.seen_count + page.count,
        body_digest=page.digest or stream.body_digest,
        body_repeats=repeats,
        loop_mark=choose_loop_mark(stream, page),
        slow_pages=0,
        incomplete=stream.incomplete or has_unknown_objects(page),
        walk_started_at=began or context.started_at,
        reason=stream.reason if stream.is_held else None,
    )
    if stream.phase is Phase.LISTING:
        return complete_walk(context, after, page) if page.is_last else after
    return complete_round(context, after, page) if page.is_last else after


def has_unknown_objects(page: Page) -> bool:
    """Whether the page held objects that cannot be identified: then absence proves nothing."""
    return page.skipped > 0 or any(one.key is None for one in page.rejects)


def complete_walk(context: SliceContext, after: Stream, page: Page) -> Stream:
    """Return the stream at the end of a walk; ``sweeping`` is committed with the last page."""
    if after.source.walks_by_delta and page.delta_link is None:
        raise MalformedResponse("Graph ended a delta enumeration without a delta link", after=600)
    ended = replace(after, phase=Phase.SWEEPING, next_link=None)
    if page.delta_link is None:
        return ended
    return replace(
        ended,
        delta_link=page.delta_link,
        delta_link_at=context.started_at,
        select_hash=compute_select_hash(after.resource, after.left_out or ()),
    )


def complete_round(context: SliceContext, after: Stream, page: Page) -> Stream:
    if page.delta_link is None:
        raise MalformedResponse("Graph ended a delta round without a delta link", after=600)
    after = replace(
        after,
        walk_id=after.walk_id + 1,
        page_no=0,
        next_link=None,
        delta_link=page.delta_link,
        delta_link_at=context.started_at,
        seen_count=0,
        loop_mark=None,
        body_digest=None,
        body_repeats=0,
        restarts=0,
        fresh_at=after.walk_started_at,
    )
    interval = context.policy.get_interval(after)
    due = compute_due_after_round(after, context.started_at, interval, context.jitter)
    return replace(after, due_at=due)


def count_repeats(stream: Stream, page: Page) -> int:
    """Return how often one page came in a row. Raises CursorExpired if next links form a loop."""
    same = bool(page.digest) and page.digest == stream.body_digest
    repeats = stream.body_repeats + 1 if same else 0
    if page.next_link is None:
        return repeats
    circling = (
        page.next_link in (stream.next_link, stream.loop_mark)
        or repeats >= MAX_REPEATS - 1
        or stream.page_no >= MAX_PAGES
    )
    if circling:
        raise CursorExpired("Graph's next links form a cycle; the walk restarts")
    return repeats


def choose_loop_mark(stream: Stream, page: Page) -> str | None:
    """Return the link of page 1, 2, 4, 8 ...; meeting it again is a loop (Brent's algorithm)."""
    number = stream.page_no + 1
    return page.next_link if number & (number - 1) == 0 else stream.loop_mark
