"""Load one page: rows, edges, events, evidence and cursor, in one transaction."""

from collections.abc import Mapping, Sequence
from typing import Final

from models.closure import NESTED_EDGES
from models.resource import Resource
from models.stream import Phase
from worker.core.process.failpoints import hit_failpoint
from worker.graph.decode import decode_changed
from worker.graph.page import Page
from worker.rows.incoming import EncodedRows, clear_columns
from worker.store.lease import Transaction
from worker.store.mirror.change import Change
from worker.store.mirror.edges import merge_edges, render_edge_key
from worker.store.mirror.merge import find_changed_keys, merge_rows, select_live_keys
from worker.store.mirror.nesting import compute_nesting
from worker.store.mirror.write import RowExists
from worker.store.state.quarantine import note_faults, note_reappeared, note_rejects, note_unread
from worker.store.state.streams import Stream, save_stream
from worker.store.state.unresolved import resolve_objects, resolve_parts
from worker.store.sweep.removals import note_removals, withdraw_removals
from worker.store.sweep.seen import SeenKeys, note_seen
from worker.sync.advance import advance_page
from worker.sync.context import SliceContext
from worker.sync.loading.erased_filter import drop_erased
from worker.sync.loading.live_since import find_members_live_since, find_rows_live_since
from worker.sync.loading.rejected_rows import quarantine_rejected_rows
from worker.sync.state import add_drift, should_compute_nesting

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
    edges = stream.carried_edges
    with context.open_transaction() as tx:
        _decode_changed(tx, stream, page)
        drop_erased(page, stream.resource, context.erased)
        after = advance_page(stream, page, context.started_at, context.policy, context.jitter)
        # A group is repeated on each page that has some of its members.
        new_rows = assume_new and not edges
        begun = find_rows_live_since(context, tx, stream, page)
        rows = merge_rows(
            tx,
            stream.resource,
            page.rows,
            encoded=encoded,
            assume_new=new_rows,
            live_since=begun,
            untold=stream.untold_columns,
        )
        changes = [(stream.resource, rows)]
        for edge in edges:
            if found := page.get_edges(edge.name).found:
                begun = find_members_live_since(context, tx, stream, edge)
                some = merge_edges(tx, edge, found, assume_new=assume_new, live_since=begun)
                changes.append((edge, some))
        after = _append_events(context, tx, after, changes)
        if withdraw:
            _withdraw_reappeared(tx, stream, page)
        _save_removals(tx, stream, page)
        _note_rejects(context, tx, stream, page)
        context.save_unresolved(tx, page.unanswered_parts)
        if context.has_unresolved:
            resolve_parts(tx, page.answered_parts)
            listed = stream.phase is Phase.LISTING
            resolve_objects(tx, stream.resource, page.keys, listed=listed)
        if stream.phase is Phase.LISTING:
            _note_seen(tx, stream, page)
        save_stream(tx, stream, after)
        if page.is_last:
            _complete_nesting(context, tx, stream)
        tx.finish()
        hit_failpoint("page-written")
    return after


def _complete_nesting(context: SliceContext, tx: Transaction, stream: Stream) -> None:
    """Compute the closures that are missing at the end of a round; a walk does it at its own."""
    for edge in NESTED_EDGES:
        if edge in stream.carried_edges and should_compute_nesting(stream, edge, context.now):
            compute_nesting(tx, edge)


def _append_events(
    context: SliceContext,
    tx: Transaction,
    stream: Stream,
    changes: Sequence[tuple[Resource, list[Change]]],
) -> Stream:
    """Append the events of a page; return the stream with its changes counted as drift.

    Edges that are read for the first time were not missed by any delta.
    """
    first = [one for one in changes if stream.is_first_read(one[0])]
    others = [one for one in changes if not stream.is_first_read(one[0])]
    for some, is_initial in ((others, False), (first, True)):
        if some:
            context.append_all_events(tx, some, initial=is_initial)
    for resource, altered in others:
        stream = add_drift(stream, resource, altered)
    return stream


def _decode_changed(tx: Transaction, stream: Stream, page: Page) -> None:
    """Decode the objects whose source has changed; the others were left undecoded."""
    if page.undecoded:
        sources = {key: unread.source_hash for key, unread in page.undecoded.items()}
        decode_changed(page, stream.resource, find_changed_keys(tx, stream.resource, sources))
        if stream.without:
            clear_columns(page.rows, stream.resource, stream.left_out_columns)


def _withdraw_reappeared(tx: Transaction, stream: Stream, page: Page) -> None:
    withdraw_removals(tx, stream.resource, page.keys)
    for edge in stream.carried_edges:
        withdraw_removals(tx, edge, _list_edge_keys(edge, page))


def _list_edge_keys(edge: Resource, page: Page) -> list[str]:
    return [render_edge_key(pair) for pair in page.get_edges(edge.name).found]


def _save_removals(tx: Transaction, stream: Stream, page: Page) -> None:
    removed: Mapping[str, str] = page.removed
    if removed and stream.resource.stored_if:
        # Most of these objects never had a row.
        live = select_live_keys(tx, stream.resource, list(removed))
        removed = {key: why for key, why in removed.items() if key in live}
    note_removals(tx, stream.resource, removed)
    for edge in stream.carried_edges:
        ended = page.get_edges(edge.name).removed
        note_removals(tx, edge, {render_edge_key(pair): why for pair, why in ended.items()})


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


def _note_seen(tx: Transaction, stream: Stream, page: Page) -> None:
    everything = (1 << len(stream.resource.columns)) - 1
    unasked = stream.unasked_columns
    """Columns that are not asked for count as sent: their absence is no reason to clear them."""
    present = [everything] * len(page.unchanged) + [
        one.present | unasked for one in page.rows.values()
    ]
    apart = [r.key for r in page.rejects if r.key is not None] + sorted(page.conflicts)
    seen = [SeenKeys(stream.resource, page.keys + apart, present + [everything] * len(apart))]
    edges = [(edge, _list_edge_keys(edge, page)) for edge in stream.carried_edges]
    seen += [SeenKeys(edge, keys) for edge, keys in edges if keys]
    note_seen(tx, stream.walk_id, stream.page_no, seen)
