"""Store objects that were quarantined or unanswered, and have been read again by id."""

from collections.abc import Mapping

from models.resource import DeletedReason, Resource
from models.unresolved import NoAnswer, Part, PartKind
from worker.graph.page import Page
from worker.rows.shape import get_shape
from worker.store.lease import Transaction
from worker.store.mirror.cascade import BatchedDeletion
from worker.store.mirror.merge import merge_rows
from worker.store.state.quarantine import (
    delete_quarantined,
    list_quarantined_keys,
    note_faults,
    note_rejects,
    postpone_retry,
    release_quarantined,
)
from worker.store.state.streams import Stream, load_untold_columns
from worker.store.state.unresolved import resolve_parts
from worker.store.sweep.removals import note_removals
from worker.sync.context import SliceContext
from worker.sync.loading.erased_filter import drop_erased
from worker.sync.loading.rejected_rows import quarantine_rejected_rows


def store_objects(
    context: SliceContext,
    stream: Stream,
    objects: Mapping[str, Page | NoAnswer | None],
    parts: Mapping[str, PartKind],
) -> bool:
    """Store objects that were read again; return whether removals wait to be applied.

    ``parts`` names those that Graph had not answered for. Deleted ones of these wait for the guard:
    a sweep judged each of them, but never all together. Each object has its own transaction: one
    that Postgres refuses affects no other.
    """
    waits: dict[str, NoAnswer] = {}
    resource = stream.resource
    for key, page in objects.items():
        if isinstance(page, NoAnswer):
            waits[key] = page
        elif page is None and key not in parts:
            _delete(context, resource, key)
        else:
            _store_or_quarantine(context, stream, key, page, parts.get(key))
    with context.open_transaction() as tx:
        noted = waits.keys() - parts.keys()
        apart = noted & list_quarantined_keys(tx, resource.name) if noted else set()
        note_rejects(tx, resource, [(key, waits[key].reason) for key in sorted(apart)])
        postpone_retry(tx, resource, sorted(noted - apart))
        again = {Part(resource.name, parts[k], k): why for k, why in waits.items() if k in parts}
        context.save_unresolved(tx, again)
    return any(page is None and key in parts for key, page in objects.items())


def _store_or_quarantine(
    context: SliceContext, stream: Stream, key: str, page: Page | None, kind: PartKind | None
) -> None:
    try:
        _store_answer(context, stream, key, page, kind)
    except Exception as error:
        if page is None or not quarantine_rejected_rows(context, stream.resource, page, error):
            raise
        _store_answer(context, stream, key, page, kind)


def _store_answer(
    context: SliceContext, stream: Stream, key: str, page: Page | None, kind: PartKind | None
) -> None:
    resource = stream.resource
    with context.open_transaction() as tx:
        if page is None:
            note_removals(tx, resource, {key: DeletedReason.NOT_SEEN})
        elif page.rejects:
            note_rejects(tx, resource, [(key, page.rejects[0].reason)])
            context.has_quarantined[resource.name] = True
        else:
            _store_page(context, tx, resource, page)
            if not stream.carried_edges and kind is None:
                release_quarantined(tx, resource, [key])
        if kind is not None:
            _resolve_part(context, tx, Part(resource.name, kind, key), exists=page is not None)


def _store_page(context: SliceContext, tx: Transaction, resource: Resource, page: Page) -> None:
    drop_erased(page, resource, context.erased)
    changes = merge_rows(tx, resource, page.rows, untold=load_untold_columns(tx, resource))
    context.append_events(tx, resource, changes, is_initial=False)
    whole = dict.fromkeys(page.rows, get_shape(resource).all_columns)
    note_faults(tx, resource, whole, page.faults)
    if page.faults:
        context.has_quarantined[resource.name] = True


def _delete(context: SliceContext, resource: Resource, key: str) -> None:
    """Delete an object that Graph does not have, with its memberships, in fenced batches."""
    deletion, done = BatchedDeletion(resource), False
    while not done:
        with context.open_transaction() as tx:
            changes, done = deletion.advance(tx, {key: DeletedReason.NOT_SEEN.value})
            context.append_all_events(tx, changes, initial=False)
            if done:
                delete_quarantined(tx, resource, [key])


def _resolve_part(context: SliceContext, tx: Transaction, part: Part, *, exists: bool) -> None:
    """Resolve a part, except an existing object that the walk missed: it waits for a list."""
    if part.kind is PartKind.UNLISTED and exists:
        why = NoAnswer("the walk missed it, but Graph returns it by id")
        context.save_unresolved(tx, {part: why})
    else:
        resolve_parts(tx, [part])
