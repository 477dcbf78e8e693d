"""A page of a walk, as far as it is understood. Plain data."""

from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from models.resource import DeletedReason
from models.unresolved import NoAnswer, Part
from worker.rows.shape import Row


class IncomingRow(NamedTuple):
    """A row as it came, a bit for each column that was sent, and the hash of its content.

    Where the row is likely to be new, its JSON and its COPY line, too; and where the object told
    all of the row, the hash of the bytes that it was sent as.
    """

    row: Row
    present: int
    hash: bytes
    source_hash: bytes | None = None
    json: bytes = b""
    line: bytes = b""


class UndecodedObject(NamedTuple):
    """An object that is taken for what it was as long as its bytes are what they were."""

    source_hash: bytes
    raw: msgspec.Raw


MAX_ODD_OBJECTS: Final = 1_000
"""Objects of a page that are taken apart or set apart one by one: more than Graph's pages have."""


class RejectedObject(NamedTuple):
    """An object that cannot be understood; ``key`` is its id where that much is readable."""

    key: str | None
    reason: str


@dataclass
class Page:
    """One page of a walk.

    Of a walk that goes over known ground, objects are ``unread`` until it is known which of them
    were sent as before: these are the ``same``, the others become rows or rejects. Of several
    lists side by side, those that Graph refuses are ``apart``, and those read whole ``answered``.
    """

    count: int = 0
    rows: dict[str, IncomingRow] = field(default_factory=dict)
    undecoded: dict[str, UndecodedObject] = field(default_factory=dict)
    unchanged: list[str] = field(default_factory=list)
    removed: dict[str, DeletedReason] = field(default_factory=dict)
    edges: dict[tuple[str, str], str] = field(default_factory=dict)
    removed_edges: dict[tuple[str, str], DeletedReason] = field(default_factory=dict)
    rejects: list[RejectedObject] = field(default_factory=list)
    skipped: int = 0
    """Objects that were not read, as too many before them on the page were odd."""
    conflicts: set[str] = field(default_factory=set)
    unanswered_parts: dict[Part, NoAnswer] = field(default_factory=dict)
    answered_parts: list[Part] = field(default_factory=list)
    faults: dict[str, dict[str, str]] = field(default_factory=dict)
    """By key and property, what was wrong with values that were cleaned or left out of rows."""
    next_link: str | None = None
    delta_link: str | None = None
    digest: str = ""

    @property
    def is_over_odd_limit(self) -> bool:
        """Whether the rest of it is passed over: each odd object costs a thousand sound ones."""
        return len(self.rejects) + len(self.faults) >= MAX_ODD_OBJECTS

    @property
    def keys(self) -> list[str]:
        """Of all objects that were met and understood, now or before."""
        return [*self.unchanged, *self.rows]

    def drop(self, key: str) -> None:
        """Take an object's row out."""
        self.rows.pop(key, None)
        self.faults.pop(key, None)

    @property
    def is_last(self) -> bool:
        return self.next_link is None
