"""What an incoming object does to the row that is stored. Pure.

The stored row is whole and known under the lock, so the outcome and its hash are computed here
and not in SQL: a row's hash is always the hash of what is stored.
"""

from typing import NamedTuple

from models.change_event import ChangeKind
from models.row import Row, RowShape
from worker.store.change import Change


class Outcome(NamedTuple):
    """The row to store, its hash, what to tell, and the hash of the bytes that told all of it."""

    row: Row
    hash: bytes
    change: Change
    source: bytes | None = None


def merged(old: Row, new: Row, present: int) -> Row:
    """Columns that were sent replace, columns that were absent stay."""
    return tuple(value if present >> index & 1 else old[index] for index, value in enumerate(new))


def created(key: str, text: bytes) -> Change:
    return Change(ChangeKind.CREATED, key, after=text)


def restored(shape: RowShape, key: str, new: Row) -> Outcome:
    """A deleted key that comes back starts from nulls: nothing is revived from memory."""
    change = Change(ChangeKind.RESTORED, key, after=shape.json(new))
    return Outcome(new, shape.hash(new), change)


def updated(shape: RowShape, key: str, old: Row, new: Row, present: int) -> Outcome | None:
    """The outcome for a live row, or None where nothing that counts has changed."""
    row = merged(old, new, present)
    names = shape.differing(shape.canonical(old), shape.canonical(row))
    if not names:
        return None
    change = Change(ChangeKind.UPDATED, key, names, shape.some(old, names), shape.some(row, names))
    return Outcome(row, shape.hash(row), change)


def deleted(shape: RowShape, key: str, old: Row) -> Change:
    return Change(ChangeKind.DELETED, key, before=shape.json(old))
