"""Pure comparison of an incoming object with the stored row.

The whole stored row is read under the lock, so the new row and its hash are computed here and not
in SQL: a row's hash is always the hash of what is stored.
"""

from typing import NamedTuple

from models.change_event import ChangeKind
from worker.rows.shape import Row, RowShape, clear_values
from worker.store.mirror.change import Change


class RowWrite(NamedTuple):
    """The row to store, its hash, and the hash of the bytes it was decoded from.

    ``names`` are the columns that differ; None: all are written, and the row becomes live.
    ``change`` is None if only columns differ that events do not tell, or not yet.
    """

    row: Row
    row_hash: bytes
    change: Change | None
    names: list[str] | None
    source_hash: bytes | None = None


def merge_columns(old: Row, new: Row, present: int) -> Row:
    """Return the old row with the columns that were sent replaced."""
    return tuple(value if present >> index & 1 else old[index] for index, value in enumerate(new))


def build_created(key: str, json: bytes) -> Change:
    return Change(ChangeKind.CREATED, key, after=json)


def build_restored(shape: RowShape, key: str, new: Row, *, untold: int = 0) -> RowWrite:
    """Return the write for a deleted key that returns; old column values are not restored."""
    told = shape.encode_json(clear_values(new, untold))
    return RowWrite(new, shape.hash_row(new), Change(ChangeKind.RESTORED, key, after=told), None)


def build_updated(
    shape: RowShape, key: str, old: Row, new: Row, present: int, *, untold: int = 0
) -> RowWrite | None:
    """Return the write for a live row, or None if nothing has changed.

    ``untold`` has a bit for each column that events do not tell yet: it is written all the same.
    """
    row = merge_columns(old, new, present)
    names = shape.find_differences(shape.canonicalize(old), shape.canonicalize(row))
    if not names:
        return None
    told = shape.select_told(names, untold)
    change = None
    if told:
        before, after = shape.encode_columns(old, told), shape.encode_columns(row, told)
        change = Change(ChangeKind.UPDATED, key, told, before, after)
    return RowWrite(row, shape.hash_row(row), change, names)


def build_deleted(shape: RowShape, key: str, old: Row, *, untold: int = 0) -> Change:
    return Change(ChangeKind.DELETED, key, before=shape.encode_json(clear_values(old, untold)))
