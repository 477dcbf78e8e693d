"""Adds records to a page: rows with their hashes, removals, edges, faults and rejects."""

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Final, Protocol

import msgspec
from msgspec import UNSET, UnsetType

from models.record import Record, Removed
from models.resource import DeletedReason, Resource
from models.resources import EDGES_IN
from worker.graph.memberships import note_members
from worker.graph.page import Page, RejectedObject
from worker.graph.page_scanner import describe_error
from worker.graph.salvage import merge_faults
from worker.rows.incoming import IncomingRow
from worker.rows.shape import Row, RowShape, get_shape

_DELETED_REASONS: Final = {
    "changed": DeletedReason.SOFT_DELETED,
    "deleted": DeletedReason.PERMANENTLY_DELETED,
}


class AddRecord(Protocol):
    """Adds a record to a page, with its bytes, if known, and the faults of its values."""

    def __call__(
        self, record: Record, raw: msgspec.Raw | None, faults: Mapping[str, str] | None = None
    ) -> None: ...


def hash_source(shape: RowShape, raw: msgspec.Raw | None, present: int) -> bytes | None:
    """Return the hash of an object's bytes if they held all columns, else None."""
    return shape.hash_source(raw) if raw is not None and present == shape.all_columns else None


def build_add_record(page: Page, resource: Resource) -> AddRecord:
    """Return a function that adds records to a page. Built once a page, called once an object."""
    shape, put = get_shape(resource), _build_put_row(page, resource)
    from_record = shape.row_from_record

    def take(
        record: Record, raw: msgspec.Raw | None, faults: Mapping[str, str] | None = None
    ) -> None:
        try:
            row, present = from_record(record)
        except ValueError:
            _put_cleaned(page, shape, put, record, faults or {})
        else:
            put(record, raw, row, present, faults)

    return take


PutRow = Callable[[Record, msgspec.Raw | None, Row, int, Mapping[str, str] | None], None]


def _put_cleaned(
    page: Page, shape: RowShape, put: PutRow, record: Record, faults: Mapping[str, str]
) -> None:
    """Add a row without values that cannot be stored; a reject if that is its key."""
    try:
        row, present, more = shape.row_without_unstorable(record)
    except ValueError as error:
        page.rejects.append(RejectedObject(None, describe_error(error)))
    else:
        put(record, None, row, present, merge_faults(faults, more))


def _build_put_row(page: Page, resource: Resource) -> PutRow:
    shape = get_shape(resource)
    hash_of = shape.hash_row
    rows, removed, conflicts = page.rows, page.removed, page.conflicts
    relations = [
        (attrgetter(edge.relation), page.get_edges(edge.name))
        for edge in EDGES_IN.get(resource.name, ())
    ]

    def put(
        record: Record,
        raw: msgspec.Raw | None,
        row: Row,
        present: int,
        faults: Mapping[str, str] | None,
    ) -> None:
        key = row[0]
        if record.removed is not UNSET:
            _note_removal(page, key, record.removed)
            return
        if key in removed:
            conflicts.add(key)
        if key in rows or faults:
            _note_faults(page, shape, key, present, faults or {})
            raw = None
        if key in rows:
            row, present = _merge_duplicate(rows[key], row, present)
        rows[key] = IncomingRow(row, present, hash_of(row), hash_source(shape, raw, present))
        for get_members, edges in relations:
            if members := get_members(record):
                note_members(edges, key, members)

    return put


def _note_faults(
    page: Page, shape: RowShape, key: str, present: int, faults: Mapping[str, str]
) -> None:
    """Record faults of an object; if it comes twice in a page, the later values count."""
    sent = shape.list_sent_properties(present)
    before = {name: why for name, why in page.faults.get(key, {}).items() if name not in sent}
    if before or faults:
        page.faults[key] = {**before, **faults}
    else:
        page.faults.pop(key, None)


def _note_removal(page: Page, key: str, removed: Removed | UnsetType) -> None:
    assert isinstance(removed, Removed)
    if key in page.rows:
        page.conflicts.add(key)
    page.removed[key] = _DELETED_REASONS.get(removed.reason, DeletedReason.PERMANENTLY_DELETED)


def _merge_duplicate(before: IncomingRow, row: Row, present: int) -> tuple[Row, int]:
    """Merge an object that comes twice in a page: the later value of each column counts."""
    merged = tuple(
        new if present >> index & 1 else old
        for index, (old, new) in enumerate(zip(before.row, row, strict=True))
    )
    return merged, before.present | present
