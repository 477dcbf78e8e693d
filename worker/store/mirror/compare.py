"""What an incoming object does to the row that is stored. Pure.

The stored row is whole and known under the lock, so the outcome and its hash are computed here
and not in SQL: a row's hash is always the hash of what is stored.
"""

from typing import NamedTuple

from models.change_event import ChangeKind
from worker.rows.shape import Row, RowShape
from worker.store.mirror.change import Change


class RowWrite(NamedTuple):
    """The row to store, its hash, what to tell, and the hash of the bytes that told all of it."""

    row: Row
    row_hash: bytes
    change: Change
    source_hash: bytes | None = None


def merge_columns(old: Row, new: Row, present: int) -> Row:
    """Columns that were sent replace, columns that were absent stay."""
    return tuple(value if present >> index & 1 else old[index] for index, value in enumerate(new))


def build_created(key: str, json: bytes) -> Change:
    return Change(ChangeKind.CREATED, key, after=json)


def build_restored(shape: RowShape, key: str, new: Row) -> RowWrite:
    """A deleted key that comes back starts from nulls: nothing is revived from memory."""
    change = Change(ChangeKind.RESTORED, key, after=shape.encode_json(new))
    return RowWrite(new, shape.hash_row(new), change)


def build_updated(shape: RowShape, key: str, old: Row, new: Row, present: int) -> RowWrite | None:
    """The outcome for a live row, or None where nothing that counts has changed."""
    row = merge_columns(old, new, present)
    names = shape.find_differences(shape.canonicalize(old), shape.canonicalize(row))
    if not names:
        return None
    change = Change(
        ChangeKind.UPDATED,
        key,
        names,
        shape.encode_columns(old, names),
        shape.encode_columns(row, names),
    )
    return RowWrite(row, shape.hash_row(row), change)


def build_deleted(shape: RowShape, key: str, old: Row) -> Change:
    return Change(ChangeKind.DELETED, key, before=shape.encode_json(old))
