"""Rows on their way into the mirror, and their encoding for COPY and for created events.

A page of new rows is encoded as a whole, in the thread that decodes, while Postgres loads the page
before it. Encode last: what clears or replaces a row's values comes before.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from models.resource import Resource
from worker.rows.shape import Row, clear_values, get_shape


class IncomingRow(NamedTuple):
    """A decoded row, a bit for each column that was sent, and the hash of its content.

    If the object sent all columns, also the hash of its bytes.
    """

    row: Row
    present: int
    hash: bytes
    source_hash: bytes | None = None


class EncodedRows(NamedTuple):
    """The JSON and the COPY lines of rows by key, without bookkeeping columns."""

    jsons: Mapping[str, bytes]
    lines: Mapping[str, bytes]


NOT_ENCODED: Final = EncodedRows(MappingProxyType({}), MappingProxyType({}))
"""For rows that are encoded when they turn out to be new."""


def clear_columns(rows: dict[str, IncomingRow], resource: Resource, columns: int) -> None:
    """Mark some columns, given as bits, as not sent in all rows."""
    shape = get_shape(resource)
    for key, item in rows.items():
        if not item.present & columns:
            continue
        row = clear_values(item.row, columns)
        rows[key] = item._replace(
            row=row, present=item.present & ~columns, hash=shape.hash_row(row), source_hash=None
        )


def encode_rows(resource: Resource, rows: Mapping[str, IncomingRow]) -> EncodedRows:
    """Return the rows encoded."""
    shape, values = get_shape(resource), [item.row for item in rows.values()]
    return EncodedRows(
        dict(zip(rows, shape.encode_json_lines(values), strict=True)),
        dict(zip(rows, shape.encode_lines(values), strict=True)),
    )
