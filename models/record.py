"""Objects as Graph sends them, decoded and validated.

Absent, null and value are three things: a property that Graph left out stays ``UNSET``.
Unknown properties and annotations are ignored, because Graph adds them without notice.
"""

from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

T = TypeVar("T")

Sent: TypeAlias = T | UnsetType | None
"""A property that may be absent (``UNSET``), null or a value."""

Guid: TypeAlias = Annotated[
    str,
    msgspec.Meta(pattern=r"^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\Z"),
]
"""A GUID in either case; stored in lower case."""

Timestamp: TypeAlias = str
"""An ISO 8601 instant. Graph sends 0 to 7 fraction digits, which no stock decoder truncates."""


def _build_json_type(levels: int) -> Any:
    """JSON of so many levels, without fractions: Postgres gives some back in other digits.

    What has them or is deeper is read by ``graph/salvage.py``. The type doubles with each level.
    """
    kind: Any = str | int | bool | None
    for _ in range(levels):
        kind = str | int | bool | list[kind] | dict[str, kind] | None
    return kind


if TYPE_CHECKING:
    Nested: TypeAlias = list[dict[str, Any]]
    """A collection of complex values, kept as Graph sent it."""
else:
    Nested = list[dict[str, _build_json_type(4)]]


class Removed(msgspec.Struct, frozen=True, gc=False):
    """Why Graph took an object out: ``changed`` can be restored, ``deleted`` is for good.

    https://learn.microsoft.com/graph/delta-query-overview
    """

    reason: str = "deleted"


class Record(msgspec.Struct, frozen=True, kw_only=True, rename="camel", gc=False):
    """One Graph object. Subclasses declare the mirrored properties, in Graph's own types."""

    id: str
    """Whether it is a GUID is judged where the row is made, by the type of its column."""

    removed: Removed | UnsetType = msgspec.field(name="@removed", default=UNSET)


class MemberReference(msgspec.Struct, frozen=True, gc=False):
    """One entry of ``members@delta``."""

    id: Guid
    odata_type: str = msgspec.field(name="@odata.type", default="")
    removed: Removed | UnsetType = msgspec.field(name="@removed", default=UNSET)


def list_graph_properties(record: type[Record]) -> tuple[str, ...]:
    """The Graph names of a record's properties, in declared order: what ``$select`` asks for."""
    fields = msgspec.structs.fields(record)
    return tuple(field.encode_name for field in fields if "@" not in field.encode_name)
