"""Objects that were set apart or noted in quarantine, and have been read again by their ids."""

from collections.abc import Mapping

from models.resource import DeletedReason, Resource
from models.row import shape_of
from models.unresolved import Part, PartKind, Unanswered
from worker.graph.page import Page
from worker.store.cascade import Deletion
from worker.store.deletions import note_removals
from worker.store.lease import Transaction
from worker.store.merge import merge_rows
from worker.store.quarantine import (
    forget,
    note_faults,
    note_rejects,
    postpone,
    quarantined,
    release,
)
from worker.store.unresolved import resolve
from worker.sync.erased import pass_over
from worker.sync.refused import set_apart_refused
from worker.sync.session import Session


def take_objects(
    session: Session,
    resource: Resource,
    found: Mapping[str, Page | Unanswered | None],
    parts: Mapping[str, PartKind],
) -> bool:
    """Store objects that were set apart; whether deletions wait to be settled.

    ``parts`` says which of them Graph had not answered for. Those that are gone wait for the
    guard: a sweep judged each of them, but never all of them together. Each has a transaction of
    its own: what Postgres refuses of one costs no other.
    """
    waits: dict[str, Unanswered] = {}
    for key, page in found.items():
        if isinstance(page, Unanswered):
            waits[key] = page
        elif page is None and key not in parts:
            _delete(session, resource, key)
        else:
            _take_storable(session, resource, key, page, parts.get(key))
    with session.writing() as tx:
        noted = waits.keys() - parts.keys()
        apart = noted & quarantined(tx, resource.name) if noted else set()
        note_rejects(tx, resource, [(key, waits[key].reason) for key in sorted(apart)])
        postpone(tx, resource, sorted(noted - apart))
        again = {Part(resource.name, parts[k], k): why for k, why in waits.items() if k in parts}
        session.note_unresolved(tx, again)
    return any(page is None and key in parts for key, page in found.items())


def _take_storable(
    session: Session, resource: Resource, key: str, page: Page | None, kind: PartKind | None
) -> None:
    try:
        _take(session, resource, key, page, kind)
    except Exception as fault:
        if page is None or not set_apart_refused(session, resource, page, fault):
            raise
        _take(session, resource, key, page, kind)


def _take(
    session: Session, resource: Resource, key: str, page: Page | None, kind: PartKind | None
) -> None:
    with session.writing() as tx:
        if page is None:
            note_removals(tx, resource, {key: DeletedReason.NOT_SEEN})
        elif page.rejects:
            note_rejects(tx, resource, [(key, page.rejects[0].reason)])
            session.quarantined[resource.name] = True
        else:
            _store(session, tx, resource, page)
            if not resource.children and kind is None:
                release(tx, resource, [key])
        if kind is not None:
            _answered(session, tx, Part(resource.name, kind, key), there=page is not None)


def _store(session: Session, tx: Transaction, resource: Resource, page: Page) -> None:
    pass_over(page, resource, session.erased)
    changes = merge_rows(tx, resource, page.rows)
    session.record(tx, resource, changes, initial=False)
    whole = dict.fromkeys(page.rows, shape_of(resource).everything)
    note_faults(tx, resource, whole, page.faults)
    if page.faults:
        session.quarantined[resource.name] = True


def _delete(session: Session, resource: Resource, key: str) -> None:
    """Delete an object that Graph does not have, with its memberships, in fenced batches."""
    deletion, done = Deletion(resource), False
    while not done:
        with session.writing() as tx:
            changes, done = deletion.advance(tx, {key: DeletedReason.NOT_SEEN.value})
            session.record_all(tx, changes, initial=False)
            if done:
                forget(tx, resource, [key])


def _answered(session: Session, tx: Transaction, part: Part, *, there: bool) -> None:
    """What a list does not show waits until a list does, or it is gone."""
    if part.kind is PartKind.UNLISTED and there:
        why = Unanswered("the walk missed it, though Graph has it by id")
        session.note_unresolved(tx, {part: why})
    else:
        resolve(tx, [part])
