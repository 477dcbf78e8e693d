"""A decoded page of a walk. Plain data."""

from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from models.resource import DeletedReason
from models.unresolved import NoAnswer, Part
from worker.rows.incoming import IncomingRow


class UndecodedObject(NamedTuple):
    """An undecoded object, which counts as unchanged if the hash of its bytes is unchanged."""

    source_hash: bytes
    raw: msgspec.Raw


MAX_ODD_OBJECTS: Final = 1_000
"""Most odd objects of a page that are salvaged or rejected; more than Graph's pages have."""


@dataclass
class PageEdges:
    """The edges of one resource on a page: pairs of a parent's id and a member's."""

    found: dict[tuple[str, str], str] = field(default_factory=dict)
    """With the type of the member."""
    removed: dict[tuple[str, str], DeletedReason] = field(default_factory=dict)


class RejectedObject(NamedTuple):
    """An object that cannot be decoded; ``key`` is its id if that is readable."""

    key: str | None
    reason: str


@dataclass
class Page:
    """One page of a walk.

    In a repeated walk, objects are ``undecoded`` until their hashes are compared: equal ones become
    ``unchanged``, the others rows or rejects. Of several lists read side by side,
    ``unanswered_parts`` are those that Graph refuses, and ``answered_parts`` those read completely.
    """

    count: int = 0
    rows: dict[str, IncomingRow] = field(default_factory=dict)
    undecoded: dict[str, UndecodedObject] = field(default_factory=dict)
    unchanged: list[str] = field(default_factory=list)
    removed: dict[str, DeletedReason] = field(default_factory=dict)
    edges: dict[str, PageEdges] = field(default_factory=dict)
    """By the name of their resource."""
    rejects: list[RejectedObject] = field(default_factory=list)
    skipped: int = 0
    """Objects that were not decoded, as the page had too many odd ones before them."""
    conflicts: set[str] = field(default_factory=set)
    unanswered_parts: dict[Part, NoAnswer] = field(default_factory=dict)
    answered_parts: list[Part] = field(default_factory=list)
    faults: dict[str, dict[str, str]] = field(default_factory=dict)
    """By key and property, the faults of values that were cleaned or left out of rows."""
    next_link: str | None = None
    delta_link: str | None = None
    digest: str = ""

    @property
    def is_over_odd_limit(self) -> bool:
        """Whether to skip the rest: an odd object costs as much time as a thousand sound ones."""
        return len(self.rejects) + len(self.faults) >= MAX_ODD_OBJECTS

    @property
    def keys(self) -> list[str]:
        """The keys of all objects decoded from this page or unchanged."""
        return [*self.unchanged, *self.rows]

    def get_edges(self, name: str) -> PageEdges:
        """Return the edges of one resource; more can be added to them."""
        return self.edges.setdefault(name, PageEdges())

    @property
    def edge_count(self) -> int:
        """How many edges of all resources it has, removed ones not counted."""
        return sum(len(one.found) for one in self.edges.values())

    @property
    def removal_count(self) -> int:
        """How many objects and edges it removes."""
        return len(self.removed) + sum(len(one.removed) for one in self.edges.values())

    def add(self, other: "Page") -> None:
        """Add the objects of another page, without its links and its digest."""
        self.count += other.count
        self.skipped += other.skipped
        self.rejects += other.rejects
        self.unchanged += other.unchanged
        self.conflicts |= other.conflicts
        self.rows |= other.rows
        self.undecoded |= other.undecoded
        self.removed |= other.removed
        self.faults |= other.faults

    def drop(self, key: str) -> None:
        """Remove an object's row."""
        self.rows.pop(key, None)
        self.faults.pop(key, None)

    @property
    def is_last(self) -> bool:
        return self.next_link is None
