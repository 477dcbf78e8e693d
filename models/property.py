"""One property of a Graph resource: its name, type and meaning, written once."""

from dataclasses import dataclass
from types import GenericAlias
from typing import Any, Final, TypeAlias, TypedDict, Unpack

import msgspec

from models.record import Complex, Guid, Integer, Nested, Timestamp

KeptFields: TypeAlias = type[msgspec.Struct]
"""The fields of complex values that are kept, each optional."""


@dataclass(frozen=True, eq=False)
class ValueType:
    """How values are decoded and stored; ``name`` is the type's name in the event schemas."""

    name: str
    python: Any
    sql: str
    """Postgres's name of the column type; empty if the property has no column."""


GUID: Final = ValueType("guid", Guid, "uuid")
TEXT: Final = ValueType("text", str, "text")
BOOLEAN: Final = ValueType("flag", bool, "boolean")
INTEGER: Final = ValueType("integer", Integer, "bigint")
TIMESTAMP: Final = ValueType("instant", Timestamp, "timestamptz")
TEXTS: Final = ValueType("texts", list[str], "text[]")
DOCUMENT: Final = ValueType("document", Complex, "jsonb")
DOCUMENTS: Final = ValueType("documents", Nested, "jsonb")

NESTED: Final = frozenset({DOCUMENT, DOCUMENTS})
"""Types of values that are stored, compared and told as JSON."""


class Marks(TypedDict, total=False):
    """What can be declared of a property besides its name, type and meaning."""

    sent_as: str
    key: bool
    indexed: bool
    personal: bool
    identifies: bool
    ends_with_domain: bool
    sampled: bool
    expand: str
    derived: bool
    derived_from: tuple[str, ...]
    references: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Property:
    """A property as declared. Its meaning is the comment of its column and part of the docs."""

    name: str
    type: ValueType
    meaning: str
    sent_as: str = ""
    """Graph's name, where it is not ``name`` in camel case."""
    key: bool = False
    """Part of Graph's key. The columns of the key come first."""
    indexed: bool = False
    """Rows are looked up by it."""
    personal: bool = False
    """It can say something about a person."""
    identifies: bool = False
    """It names the object; an erasure removes it from texts as well."""
    ends_with_domain: bool = False
    """Its text ends with an @ and a domain that the tenant has verified."""
    sampled: bool = False
    """It changes too often to be told: no event has it, and each day's last value is kept apart."""
    unordered: bool = False
    """A list whose order means nothing: Graph may send it in another one."""
    expand: str = ""
    """What asks lists for it, where ``$select`` does not: the value of ``$expand``."""
    derived: bool = False
    """A column that the resource's ``derive`` computes; Graph does not know it."""
    derived_from: tuple[str, ...] = ()
    """The properties that a derived column is lost without."""
    references: tuple[str, ...] = ()
    """The resources whose ids it holds."""
    keeps: KeptFields | None = None
    """The fields of each value that are decoded and kept; none of the others is ever read."""

    @property
    def python(self) -> Any:
        """The type that its values are decoded to."""
        return GenericAlias(list, (self.keeps,)) if self.keeps else self.type.python

    @property
    def graph_name(self) -> str:
        first, *rest = self.name.split("_")
        return self.sent_as or first + "".join(word.title() for word in rest)

    @property
    def is_column(self) -> bool:
        return bool(self.type.sql)

    @property
    def is_personal(self) -> bool:
        return self.personal or self.identifies


def guid(name: str, meaning: str, **marks: Unpack[Marks]) -> Property:
    return Property(name=name, type=GUID, meaning=meaning, **marks)


def text(name: str, meaning: str, **marks: Unpack[Marks]) -> Property:
    return Property(name=name, type=TEXT, meaning=meaning, **marks)


def boolean(name: str, meaning: str, **marks: Unpack[Marks]) -> Property:
    return Property(name=name, type=BOOLEAN, meaning=meaning, **marks)


def integer(name: str, meaning: str, **marks: Unpack[Marks]) -> Property:
    return Property(name=name, type=INTEGER, meaning=meaning, **marks)


def timestamp(name: str, meaning: str, **marks: Unpack[Marks]) -> Property:
    return Property(name=name, type=TIMESTAMP, meaning=meaning, **marks)


def texts(name: str, meaning: str, *, unordered: bool, **marks: Unpack[Marks]) -> Property:
    return Property(name=name, type=TEXTS, meaning=meaning, unordered=unordered, **marks)


def document(name: str, meaning: str, **marks: Unpack[Marks]) -> Property:
    """Return a property with one complex value.

    It is stored as Graph sent it, without members that are null: Graph sends fifteen of these for
    each user. A value without any other member is null.
    """
    return Property(name=name, type=DOCUMENT, meaning=meaning, **marks)


def documents(
    name: str,
    meaning: str,
    *,
    unordered: bool,
    keeps: KeptFields | None = None,
    **marks: Unpack[Marks],
) -> Property:
    """Return a property with a list of complex values, which is stored as Graph sent it.

    With ``keeps``, each value has the fields of that type, null where absent, and no others.
    """
    return Property(
        name=name, type=DOCUMENTS, meaning=meaning, unordered=unordered, keeps=keeps, **marks
    )


def facet(name: str, python: Any, meaning: str, **marks: Unpack[Marks]) -> Property:
    """Return a property that is requested and decoded, but has no column of its own.

    ``derive`` computes columns from it.
    """
    return Property(name=name, type=ValueType("facet", python, ""), meaning=meaning, **marks)
