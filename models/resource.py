"""Declaration of a mirrored Graph resource, and the columns of its table."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, Final

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Index,
    LargeBinary,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.schema import SchemaItem

from models.base import DIRECTORY, metadata
from models.record import Record, list_graph_properties

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


class Kind(StrEnum):
    """How a resource is read from Graph."""

    ENTITY = "entity"
    """Objects with a delta function."""

    EDGE = "edge"
    """Pairs that arrive inside their parent as ``members@delta``."""

    SNAPSHOT = "snapshot"
    """A list without delta: read completely, at its own interval."""


class DeletedReason(StrEnum):
    """Why a row is no longer live."""

    SOFT_DELETED = "soft_deleted"
    PERMANENTLY_DELETED = "permanently_deleted"
    NOT_SEEN = "not_seen"
    CASCADE = "cascade"


@dataclass(frozen=True)
class Clock:
    """Default seconds between two reads of a resource, and between two full walks."""

    interval: int
    full: int | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Resource:
    """One kind of mirrored Graph object.

    ``path`` lists the objects, ``by_id`` reads one (``{id}`` is replaced by the row's ``address``
    column), and ``permission`` is the least privileged application permission that both need.
    """

    name: str
    kind: Kind
    table: Table
    permission: str
    record: type[Record] = Record
    path: str = ""
    delta_path: str = ""
    by_id: str = ""
    address: str = "id"
    select: bool = True
    page_size: int | None = None
    clock: Clock | None = None
    children: tuple[str, ...] = ()
    parent: str = ""
    event_noun: str = ""
    derive: Callable[[Any], Mapping[str, object]] | None = None
    derived_from: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Derived columns by the Graph property that they are computed from."""

    @cached_property
    def key(self) -> tuple[str, ...]:
        """The Graph key: the primary key without the connection."""
        return tuple(str(c.name) for c in self.table.primary_key.columns if c.name != OWNER)

    @cached_property
    def columns(self) -> tuple[Column[Any], ...]:
        """The mirrored columns, key first, without bookkeeping columns."""
        ours = {OWNER, *BOOKKEEPING}
        return tuple(c for c in self.table.columns if c.name not in ours)

    @cached_property
    def column_names(self) -> tuple[str, ...]:
        return tuple(str(column.name) for column in self.columns)

    @cached_property
    def is_plain(self) -> bool:
        """Whether an object's row depends only on its own bytes, and its key only on its id."""
        return self.kind is not Kind.EDGE and not self.children and self.derive is None

    @cached_property
    def optional(self) -> tuple[str, ...]:
        """The Graph properties that a request may leave out: neither key nor relation."""
        return list_graph_properties(self.record)[1:] if self.select else ()

    def columns_of(self, properties: Collection[str]) -> int:
        """Return a bit for each column that comes from one of these Graph properties."""
        names = {name for one in properties for name in self.derived_from.get(one, ())}
        fields = msgspec.structs.fields(self.record)
        names |= {one.name for one in fields if one.encode_name in properties}
        return sum(1 << i for i, name in enumerate(self.column_names) if name in names)

    @cached_property
    def selected(self) -> tuple[str, ...]:
        """The Graph properties to request, the key first; relations that carry edges last."""
        return (*list_graph_properties(self.record), *self.children)


def mirror_table(name: str, *items: SchemaItem, comment: str) -> Table:
    """Return a mirror table: the connection, the given columns, then bookkeeping columns.

    No other index may start with the connection: while statistics are outdated during a first load,
    the planner rates such an index as good as the key and reads a whole tenant for each probe.
    The index of deleted rows is for the purge, which searches old ones in all connections.
    """
    return Table(
        name,
        metadata,
        Column(OWNER, BigInteger, primary_key=True, autoincrement=False),
        *items,
        Column("first_seen_at", DateTime(timezone=True), nullable=False),
        Column("changed_at", DateTime(timezone=True), nullable=False),
        Column("deleted_at", DateTime(timezone=True), comment="null while live"),
        Column("deleted_reason", Text),
        Column("row_hash", LargeBinary, comment="versioned digest of the stored values"),
        Column(
            "source_hash",
            LargeBinary,
            comment="versioned digest of the bytes that the row was made of, where they told all",
        ),
        Column(
            "live_since",
            DateTime(timezone=True),
            comment="when it was seen to become live; null where that was not seen",
        ),
        Index(
            f"ix_{name}_deleted_at",
            "deleted_at",
            postgresql_where=text("deleted_at is not null"),
        ),
        schema=DIRECTORY,
        comment=comment,
    )


def build_deleted_index(name: str) -> Index:
    """Return an index that shows quickly whether a connection has any deleted row.

    No query by id may use its condition: see ``mirror_table`` on indexes of a connection.
    """
    return Index(f"ix_{name}_deleted", OWNER, postgresql_where=text("deleted_at is not null"))


def guid_key(name: str) -> Column[str]:
    """Return a GUID column that is part of the primary key."""
    return Column(name, Uuid(as_uuid=False), primary_key=True)
