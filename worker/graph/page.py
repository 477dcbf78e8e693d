"""A page of a walk, as far as it is understood. Plain data."""

from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from models.resource import DeletedReason
from models.row import Row
from models.unresolved import Part, Unanswered


class Incoming(NamedTuple):
    """A row as it came, a bit for each column that was sent, and the hash of its content.

    Where the row is likely to be new, its JSON and its COPY line, too; and where the object told
    all of the row, the hash of the bytes that it was sent as.
    """

    row: Row
    present: int
    hash: bytes
    source: bytes | None = None
    json: bytes = b""
    line: bytes = b""


class Unread(NamedTuple):
    """An object that is taken for what it was as long as its bytes are what they were."""

    source: bytes
    raw: msgspec.Raw


MOST_ODD: Final = 1_000
"""Objects of a page that are taken apart or set apart one by one: more than Graph's pages have."""


class Malformed(NamedTuple):
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
    rows: dict[str, Incoming] = field(default_factory=dict)
    unread: dict[str, Unread] = field(default_factory=dict)
    same: list[str] = field(default_factory=list)
    removed: dict[str, DeletedReason] = field(default_factory=dict)
    edges: dict[tuple[str, str], str] = field(default_factory=dict)
    edges_removed: dict[tuple[str, str], DeletedReason] = field(default_factory=dict)
    rejects: list[Malformed] = field(default_factory=list)
    passed_over: int = 0
    """Objects that were not read, as too many before them on the page were odd."""
    conflicts: set[str] = field(default_factory=set)
    apart: dict[Part, Unanswered] = field(default_factory=dict)
    answered: list[Part] = field(default_factory=list)
    faults: dict[str, dict[str, str]] = field(default_factory=dict)
    """By key and property, what was wrong with values that were cleaned or left out of rows."""
    next_link: str | None = None
    delta_link: str | None = None
    digest: str = ""

    @property
    def is_too_odd(self) -> bool:
        """Whether the rest of it is passed over: each odd object costs a thousand sound ones."""
        return len(self.rejects) + len(self.faults) >= MOST_ODD

    @property
    def keys(self) -> list[str]:
        """Of all objects that were met and understood, now or before."""
        return [*self.same, *self.rows]

    def drop(self, key: str) -> None:
        """Take an object's row out."""
        self.rows.pop(key, None)
        self.faults.pop(key, None)

    @property
    def is_last(self) -> bool:
        return self.next_link is None
