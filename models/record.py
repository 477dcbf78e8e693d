"""Base records of decoded and validated Graph objects.

A property can be absent, null or a value; an absent one stays ``UNSET``. Unknown properties and
annotations are ignored, because Graph adds them without notice.
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
"""A GUID in upper or lower case; stored in lower case."""

Integer: TypeAlias = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""A whole number of 32 or 64 bits, which Graph sends without quotes."""

Timestamp: TypeAlias = str
"""An ISO 8601 time. Graph sends 0 to 7 fraction digits, which no standard decoder truncates."""


def _build_json_type(levels: int) -> Any:
    """Return a type of JSON with so many levels and no fractions, whose digits Postgres may change.

    ``graph/salvage.py`` reads fractions and deeper JSON. The type doubles with each level.
    """
    kind: Any = str | int | bool | None
    for _ in range(levels):
        kind = str | int | bool | list[kind] | dict[str, kind] | None
    return kind


if TYPE_CHECKING:
    Complex: TypeAlias = dict[str, Any]
    """A complex value, stored as Graph sent it."""
    Nested: TypeAlias = list[Complex]
    """A collection of complex values, stored as Graph sent it."""
else:
    Complex = dict[str, _build_json_type(4)]
    Nested = list[Complex]


class Removed(msgspec.Struct, frozen=True, gc=False):
    """Why Graph removed an object: ``changed`` can be restored, ``deleted`` is permanent.

    https://learn.microsoft.com/graph/delta-query-overview
    """

    reason: str = "deleted"


class Record(msgspec.Struct, frozen=True, kw_only=True, rename="camel", gc=False):
    """One Graph object. Each resource adds its properties, in Graph's own types."""

    id: str
    """``RowShape`` checks whether it is a GUID, by the type of its column."""

    removed: Removed | UnsetType = msgspec.field(name="@removed", default=UNSET)


class MemberReference(msgspec.Struct, frozen=True, gc=False):
    """One entry of ``members@delta``."""

    id: Guid
    odata_type: str = msgspec.field(name="@odata.type", default="")
    removed: Removed | UnsetType = msgspec.field(name="@removed", default=UNSET)
