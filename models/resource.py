"""Declaration of a mirrored Graph resource, and what follows from it."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from string import Formatter
from typing import Any, Final, Literal, NamedTuple, TypeAlias, cast

import msgspec
from msgspec import UNSET, UnsetType

from models.edge import Edge, HiddenBy, name_member_type
from models.property import Property
from models.record import MemberReference, Record
from models.source import Fallback, Mode, Source

OWNER: Final = "connection_id"
BOOKKEEPING: Final = (
    "first_seen_at",
    "changed_at",
    "deleted_at",
    "deleted_reason",
    "row_hash",
    "source_hash",
    "live_since",
)

ServiceName: TypeAlias = Literal["directory", "sharepoint"]
"""Services behind Graph that throttle on their own."""


class DeletedReason(StrEnum):
    """Why a row is no longer live."""

    SOFT_DELETED = "soft_deleted"
    PERMANENTLY_DELETED = "permanently_deleted"
    NOT_SEEN = "not_seen"
    CASCADE = "cascade"


class Verbs(NamedTuple):
    """The names of an object's changes in event types, behind the resource's ``event_noun``."""

    created: str = "created"
    updated: str = "updated"
    deleted: str = "deleted"
    restored: str = "restored"


OBJECT_VERBS: Final = Verbs()


class PartialIndex(NamedTuple):
    """An index of a connection's rows that meet a condition."""

    name: str
    where: str
    columns: tuple[str, ...] = ()
    """Columns after the connection."""


DELETED_INDEX: Final = PartialIndex("deleted", "deleted_at is not null")
"""Shows quickly whether a connection has any deleted row.

No query by id may use its condition: see ``models/mirror.py`` on indexes of a connection.
"""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Resource:
    """One kind of mirrored Graph object. Table, record, requests, rows and events come from it."""

    name: str
    meaning: str
    permission: str
    """The least privileged application permission that all requests need."""
    source: Source
    properties: tuple[Property, ...]
    """In the order of the columns, the key first. Row hashes depend on it: only append."""
    event_noun: str
    graph_type: str = ""
    """Graph's name of the type; none for an edge."""
    by_id: str = ""
    """Reads one object: ``{id}`` stands for that column of its row, as does any other name."""
    fallbacks: tuple[Fallback, ...] = ()
    service: ServiceName = "directory"
    """The service that throttles its requests."""
    relations: tuple[str, ...] = ()
    """Properties that deltas send as lists of changes, as ``members@delta``: of edges, or of what
    ``derive`` reads."""
    optional_relations: tuple[str, ...] = ()
    """The relations that are left out where a tenant refuses them."""
    edge: Edge | None = None
    """How these edges are read; None for objects."""
    stored_if: tuple[str, ...] = ()
    """Columns of which one must have a value: an object without any stands for no row."""
    has_events: bool = True
    """Whether events tell its changes."""
    derive: Callable[[Any], Mapping[str, object]] | None = None
    """Computes the derived columns from a record."""
    indexes: tuple[PartialIndex, ...] = ()
    verbs: Verbs = OBJECT_VERBS
    labels: tuple[str, ...] = ()
    """Columns that name an object to people, best first."""
    phrase: str = ""
    """How to name an object that has no label, such as ``{member_id} in {group_id}``."""
    is_optional: bool = False
    """Whether it is off unless the settings switch it on, as it costs many calls."""
    erasable: bool = False
    """Whether an operator can erase its objects: they are people, or may be named after them."""

    def __repr__(self) -> str:
        return f"<Resource {self.name}>"

    @cached_property
    def columns(self) -> tuple[Property, ...]:
        """The mirrored columns, key first, without bookkeeping columns."""
        return tuple(one for one in self.properties if one.is_column)

    @cached_property
    def column_names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @cached_property
    def told_columns(self) -> tuple[Property, ...]:
        """The columns that events tell."""
        return tuple(column for column in self.columns if not column.sampled)

    @cached_property
    def sampled_columns(self) -> tuple[Property, ...]:
        """The columns of which each day's last value is kept instead."""
        return tuple(column for column in self.columns if column.sampled)

    @cached_property
    def key_columns(self) -> tuple[Property, ...]:
        return tuple(column for column in self.columns if column.key)

    @cached_property
    def key(self) -> tuple[str, ...]:
        """The Graph key: the primary key without the connection."""
        return tuple(column.name for column in self.key_columns)

    @cached_property
    def address(self) -> tuple[str, ...]:
        """The columns whose values the path of one object names."""
        return tuple(name for _, name, _, _ in Formatter().parse(self.by_id) if name)

    @cached_property
    def is_edge(self) -> bool:
        """Whether its rows are pairs that arrive inside their parent's objects."""
        return self.edge is not None

    @cached_property
    def parent(self) -> str:
        """Name of the resource whose walk brings these edges; empty for objects."""
        return self.edge.parent if self.edge else ""

    @cached_property
    def relation(self) -> str:
        """The property of the parent that carries these edges; empty for objects."""
        return self.edge.relation if self.edge else ""

    @cached_property
    def hidden_by(self) -> HiddenBy | None:
        """Where Graph hides members of a parent without refusing them."""
        return self.edge.hidden_by if self.edge else None

    @cached_property
    def member_type(self) -> str:
        """The type of its objects where they are members."""
        return name_member_type(self.graph_type)

    @cached_property
    def is_plain(self) -> bool:
        """Whether an object's row depends only on its own bytes, and its key only on its id."""
        return not self.is_edge and not self.relations and self.derive is None

    @cached_property
    def sent(self) -> tuple[Property, ...]:
        """The properties that Graph sends with an object; every record has an id."""
        return tuple(
            p for p in self.properties if not (self.is_edge or p.derived or p.name == "id")
        )

    @cached_property
    def record(self) -> type[Record]:
        """The type that an object is decoded to. Any property may be absent or null."""
        fields: list[tuple[str, Any, Any]] = [
            (
                one.name,
                one.python | UnsetType | None,
                msgspec.field(name=one.graph_name, default=UNSET),
            )
            for one in self.sent
        ]
        edges = list[MemberReference] | UnsetType
        fields += [
            (name, edges, msgspec.field(name=f"{name}@delta", default=UNSET))
            for name in self.relations
        ]
        made = msgspec.defstruct(
            self.graph_type or self.name,
            fields,
            bases=(Record,),
            module=__name__,
            frozen=True,
            kw_only=True,
            gc=False,
        )
        return cast("type[Record]", made)

    @cached_property
    def selected(self) -> tuple[str, ...]:
        """The Graph properties to request, the key first; relations that only deltas send last."""
        return ("id", *self._selectable, *self.relations)

    @cached_property
    def expands(self) -> tuple[str, ...]:
        """What lists and reads by id ask for besides the selected properties."""
        return tuple(one.expand for one in self.sent if one.expand)

    @cached_property
    def _selectable(self) -> tuple[str, ...]:
        return tuple(one.graph_name for one in self.sent if not one.expand)

    @cached_property
    def optional(self) -> tuple[str, ...]:
        """The Graph properties that a request may leave out: not the key, nor most relations."""
        if not self.source.select:
            return ()
        return (*self._selectable, *self.optional_relations)

    def columns_of(self, properties: Collection[str]) -> int:
        """Return a bit for each column that comes from one of these Graph properties."""
        sent = {one.name for one in self.properties if one.graph_name in properties}
        return sum(
            1 << i
            for i, column in enumerate(self.columns)
            if (not column.derived and column.name in sent)
            or not sent.isdisjoint(column.derived_from)
        )

    @cached_property
    def sources(self) -> Mapping[Mode, Source]:
        """All ways to read the resource, by the name of the way."""
        ways = (self.source, *(fallback.source for fallback in self.fallbacks))
        return {way.mode: way for way in ways}

    def find_fallback(self, status: int, *, at_delta_start: bool) -> Source | None:
        """Return another way to read the resource after a refusal of the plain one, or None."""
        for fallback in self.fallbacks:
            if status in fallback.statuses and (at_delta_start or not fallback.at_delta_start):
                return fallback.source
        return None

    @cached_property
    def listing(self) -> Source:
        """The way to read it where the tenant offers no delta."""
        return next(fallback.source for fallback in self.fallbacks if fallback.at_delta_start)

    @cached_property
    def partition(self) -> Property | None:
        """The property by which a walk may go, one query for each object that it references."""
        ways = self.sources.values()
        names = {way.filtered_by for way in ways} | {
            way.below.property for way in ways if way.below
        }
        return next((one for one in self.properties if one.name in names), None)

    @cached_property
    def partitioned_by(self) -> str:
        """Name of the resource whose objects such a walk goes through; empty if there is none."""
        return self.partition.references[0] if self.partition else ""
