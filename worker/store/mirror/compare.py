"""Pure comparison of an incoming object with the stored row.

The whole stored row is read under the lock, so the new row and its hash are computed here and not
in SQL: a row's hash is always the hash of what is stored.
"""

from typing import NamedTuple

from models.change_event import ChangeKind
from worker.rows.shape import Row, RowShape
from worker.store.mirror.change import Change


class RowWrite(NamedTuple):
    """The row to store, its hash, its change, and the hash of the bytes it was decoded from."""

    row: Row
    row_hash: bytes
    change: Change
    source_hash: bytes | None = None


def merge_columns(old: Row, new: Row, present: int) -> Row:
    """Return the old row with the columns that were sent replaced."""
    return tuple(value if present >> index & 1 else old[index] for index, value in enumerate(new))


def build_created(key: str, json: bytes) -> Change:
    return Change(ChangeKind.CREATED, key, after=json)


def build_restored(shape: RowShape, key: str, new: Row) -> RowWrite:
    """Return the write for a deleted key that returns; old column values are not restored."""
    change = Change(ChangeKind.RESTORED, key, after=shape.encode_json(new))
    return RowWrite(new, shape.hash_row(new), change)


def build_updated(shape: RowShape, key: str, old: Row, new: Row, present: int) -> RowWrite | None:
    """Return the write for a live row, or None if nothing has changed."""
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
