"""The ways in which a resource can be read from Graph."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NamedTuple, TypeAlias

IntervalName: TypeAlias = Literal[
    "delta_seconds",
    "listing_seconds",
    "roles_seconds",
    "roles_filtered_seconds",
    "sites_seconds",
    "daily_seconds",
    "app_roles_seconds",
    "other_app_roles_seconds",
]
"""Settings with the seconds between two reads."""


class Mode(StrEnum):
    """The names of the ways, as they are stored with a stream."""

    PLAIN = "plain"
    BY_DEFINITION = "by_definition"
    """Role assignments if Graph demands a filter: one query for each role definition."""
    SEARCH = "search"
    """Sites if the complete list is refused: best effort, never complete."""
    LIST_ONLY = "list_only"
    """Users and groups if the tenant offers no delta."""


class ColumnValue(NamedTuple):
    """A column, and a value in it."""

    column: str
    value: str


class Below(NamedTuple):
    """A list below each object of another resource: ``{parent}`` in the path stands for its key.

    All of them together are one walk, which begins once that resource has been read completely.
    """

    property: str
    """Holds the key of the object below which an object is listed; it references its resource."""
    probe_path: str
    """A list of the same kind that every tenant has, for a probe."""
    omits: ColumnValue | None = None
    """Which objects have no list that is read here."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """One way to read a resource."""

    path: str
    """Lists the objects."""
    intervals: tuple[IntervalName, ...]
    """The settings that govern how often it is read; the longest counts."""
    mode: Mode = Mode.PLAIN
    page_size: int | None = None
    """Objects to request on a page of a list; Graph chooses if there is none."""
    select: bool = True
    """Whether the path takes ``$select``."""
    delta_path: str = ""
    """The delta function. Its links are bound to the tenant and to the selected properties."""
    full_walk: IntervalName | None = None
    """The setting with the seconds between two full walks, if it is not the one of all others."""
    walks_by_delta: bool = False
    """Whether a full walk is an enumeration by delta, because that brings the relations."""
    relations_apart: bool = False
    """Whether the relations are listed object by object, after the objects."""
    filtered_by: str = ""
    """Property to filter by, one query for each object that it references."""
    below: Below | None = None
    """The other resource below whose objects the lists are."""
    best_effort: str = ""
    """Why a walk is never complete, for the operator; an object that it misses may exist."""

    @property
    def follows_delta(self) -> bool:
        return bool(self.delta_path)

    @property
    def takes_token(self) -> bool:
        """Whether a delta token is taken before each full walk, which then lists the objects."""
        return self.follows_delta and not self.walks_by_delta


@dataclass(frozen=True, kw_only=True)
class Fallback:
    """Another way to read a resource if Graph refuses the plain one with one of these statuses."""

    statuses: frozenset[int]
    source: Source
    at_delta_start: bool = False
    """Whether only the refusal of the request that starts the delta counts."""
