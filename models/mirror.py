"""Tables of mirrored resources, built from their declarations."""

from functools import cache
from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Index,
    LargeBinary,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine

from models.base import DIRECTORY, metadata
from models.property import (
    BOOLEAN,
    DOCUMENT,
    DOCUMENTS,
    GUID,
    INTEGER,
    TEXT,
    TEXTS,
    TIMESTAMP,
    Property,
    ValueType,
)
from models.resource import OWNER, PartialIndex, Resource

_TYPES: Final[dict[ValueType, TypeEngine[Any]]] = {
    GUID: Uuid(as_uuid=False),
    TEXT: Text(),
    BOOLEAN: Boolean(),
    INTEGER: BigInteger(),
    TIMESTAMP: DateTime(timezone=True),
    TEXTS: ARRAY(Text),
    DOCUMENT: JSONB(),
    DOCUMENTS: JSONB(),
}


@cache
def get_table(resource: Resource) -> Table:
    """Return a resource's table: the connection, the properties, then bookkeeping columns.

    Only partial indexes may start with the connection: while statistics are outdated during a first
    load, the planner rates any other one as good as the key and reads a whole tenant for each
    probe. The index of deleted rows is for the purge, which searches old ones in all connections.
    """
    return Table(
        resource.name,
        metadata,
        Column(
            OWNER,
            BigInteger,
            primary_key=True,
            autoincrement=False,
            comment="the connection that the row belongs to",
        ),
        *map(build_column, resource.columns),
        Column(
            "first_seen_at",
            DateTime(timezone=True),
            nullable=False,
            comment="when it was first stored here",
        ),
        Column(
            "changed_at",
            DateTime(timezone=True),
            nullable=False,
            comment="when its last change was stored here",
        ),
        Column("deleted_at", DateTime(timezone=True), comment="null while live"),
        Column(
            "deleted_reason",
            Text,
            comment="soft_deleted, permanently_deleted, not_seen or cascade; null while live",
        ),
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
            f"ix_{resource.name}_deleted_at",
            "deleted_at",
            postgresql_where=text("deleted_at is not null"),
        ),
        *(Index(None, column.name, OWNER) for column in resource.columns if column.indexed),
        *(_build_index(resource, index) for index in resource.indexes),
        schema=DIRECTORY,
        comment=resource.meaning,
    )


def build_column(declared: Property) -> Column[Any]:
    """Return the column of a declared property."""
    return Column(
        declared.name, _TYPES[declared.type], primary_key=declared.key, comment=declared.meaning
    )


def _build_index(resource: Resource, declared: PartialIndex) -> Index:
    name = f"ix_{resource.name}_{declared.name}"
    return Index(name, OWNER, *declared.columns, postgresql_where=text(declared.where))
