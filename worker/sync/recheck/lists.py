"""Read lists again that Graph did not answer for, such as who may use one application.

What a list shows is stored. What it does not show is read by id, and becomes a removal like those
of a round if it is gone: they are applied after the last list, and held if they are implausible.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from models.resource import DeletedReason, Resource
from models.unresolved import NoAnswer
from worker.graph.client import MAX_BATCH_ITEMS
from worker.graph.page import Page
from worker.store.lease import Transaction
from worker.store.mirror.merge import merge_rows
from worker.store.mirror.recheck import list_live_keys_below
from worker.store.state.quarantine import note_faults, note_rejects
from worker.store.state.streams import Stream, load_untold_columns
from worker.store.state.unresolved import resolve_parts
from worker.store.sweep.removals import note_removals
from worker.sync.advance import has_unknown_objects
from worker.sync.context import SliceContext
from worker.sync.finish.removals import apply_round_removals
from worker.sync.loading.erased_filter import drop_erased
from worker.sync.loading.rejected_rows import quarantine_rejected_rows
from worker.sync.sources.by_id import classify_objects, load_addresses
from worker.sync.sources.list_cursor import ListPlace
from worker.sync.sources.lists_below import build_list_part, fetch_lists
from worker.sync.sources.partial_failures import isolate_errors

MAX_CONFIRMED: Final = 500
"""Objects of one list that are read by id; if more are missing, the next walk judges them."""


@dataclass
class _ReadLists:
    """What some lists have shown, as far as they could be read."""

    keys: set[str] = field(default_factory=set)
    unanswered: dict[str, NoAnswer] = field(default_factory=dict)
    is_whole: bool = True
    """Whether each object that they have shown could be identified."""


def recheck_lists_below(context: SliceContext, stream: Stream, parents: Sequence[str]) -> Stream:
    """Read the lists below some parents, and resolve those that are answered; return the stream."""
    missing = 0
    for start in range(0, len(parents), MAX_BATCH_ITEMS):
        some = parents[start : start + MAX_BATCH_ITEMS]
        read = _read_lists(context, stream, some)
        missing += sum(_finish_list(context, stream, one, read) for one in some)
    return apply_round_removals(context, stream) if missing else stream


def _read_lists(context: SliceContext, stream: Stream, parents: Sequence[str]) -> _ReadLists:
    """Store the lists below some parents, page by page."""
    read, under_way = _ReadLists(), dict[str, ListPlace]()
    new = list(parents)
    while new or under_way:
        asked = len(new) + len(under_way)
        came = fetch_lists(context.client, stream, under_way, new)
        read.unanswered |= isolate_errors(came.errors, asked)
        page, under_way, new = came.page, came.under_way, []
        read.keys |= {*page.keys, *(one.key for one in page.rejects if one.key is not None)}
        read.keys |= page.conflicts
        read.is_whole = read.is_whole and not has_unknown_objects(page)
        _store_or_quarantine(context, stream.resource, page)
    return read


def _store_or_quarantine(context: SliceContext, resource: Resource, page: Page) -> None:
    """Store a page without the objects that Postgres refuses."""
    try:
        _store(context, resource, page)
    except Exception as error:
        if not quarantine_rejected_rows(context, resource, page, error):
            raise
        _store(context, resource, page)


def _store(context: SliceContext, resource: Resource, page: Page) -> None:
    drop_erased(page, resource, context.erased)
    with context.open_transaction() as tx:
        changes = merge_rows(tx, resource, page.rows, untold=load_untold_columns(tx, resource))
        context.append_events(tx, resource, changes, is_initial=False)
        note_rejects(tx, resource, [(one.key, one.reason) for one in page.rejects])
        present = {key: one.present for key, one in page.rows.items()}
        note_faults(tx, resource, present, page.faults)
    if page.rejects or page.faults:
        context.has_quarantined[resource.name] = True


def _finish_list(context: SliceContext, stream: Stream, parent: str, read: _ReadLists) -> int:
    """Note what the list of a parent does not show any more; return how many removals wait."""
    resource, part = stream.resource, build_list_part(stream.resource, parent)
    if parent in read.unanswered:
        with context.open_transaction() as tx:
            context.save_unresolved(tx, {part: read.unanswered[parent]})
        return 0
    with context.open_read_transaction() as tx:
        stored = list_live_keys_below(tx, resource, parent)
        unseen = [key for key in stored if key not in read.keys]
        addresses = load_addresses(tx, resource, unseen)
    if not read.is_whole or len(unseen) > MAX_CONFIRMED:
        unseen = []
    present, unknown, locked = classify_objects(context.client, resource, unseen, addresses)
    gone = [key for key in unseen if key not in present | unknown.keys() | locked.keys()]
    with context.open_transaction() as tx:
        _resolve(context, tx, stream, parent, unknown | locked)
        note_removals(tx, resource, dict.fromkeys(gone, DeletedReason.NOT_SEEN.value))
    return len(gone)


def _resolve(
    context: SliceContext,
    tx: Transaction,
    stream: Stream,
    parent: str,
    unknown: dict[str, NoAnswer],
) -> None:
    """Resolve the part of a parent, unless some of its objects are still in doubt."""
    part = build_list_part(stream.resource, parent)
    if unknown:
        context.save_unresolved(tx, {part: next(iter(unknown.values()))})
    else:
        resolve_parts(tx, [part])
