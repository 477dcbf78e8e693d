"""Shapes of stored objects: values in column order, their JSON and their content hash.

Each resource has one shape, built from its declaration. Rows come from Graph (through a record) and
from Postgres; both have the same Python values, so that they can be compared for equality.
"""

import re
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from functools import cache
from operator import itemgetter
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import UNSET

from models.property import DOCUMENT, DOCUMENTS, GUID, NESTED, TEXT, TIMESTAMP, Property
from models.record import Record
from models.resource import Resource
from worker.rows.copy_format import build_encoders, encode_line, encode_lines
from worker.rows.hash import hash_bytes

Row: TypeAlias = tuple[Any, ...]
"""Values in the order of ``Resource.columns``."""


def clear_values(row: Row, columns: int) -> Row:
    """Return a row with nulls in some columns, given as bits."""
    if not columns:
        return row
    return tuple(None if columns >> index & 1 else value for index, value in enumerate(row))


MAX_KEY_LENGTH: Final = 400
"""Most characters of a text key; an index entry of Postgres holds up to 2,700 bytes."""

MAX_INDEXED_BYTES: Final = 2_600
"""Most bytes of an indexed text; compression may allow more, but not reliably."""

_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_encoder = msgspec.json.Encoder(order="deterministic")
_encode = _encoder.encode


def _parse_guid(value: str) -> str:
    lowered = value.lower()
    if _GUID.fullmatch(lowered) is None:
        raise ValueError("expected a GUID")
    return lowered


def _parse_opaque_id(value: str) -> str:
    if not 0 < len(value) <= MAX_KEY_LENGTH:
        raise ValueError(f"expected an id of 1 to {MAX_KEY_LENGTH} letters")
    return value


def _parse_timestamp(value: str) -> datetime | None:
    """Parse a time; digits beyond microseconds are cut, and year 1 is Graph's value for never."""
    try:
        parsed = datetime.fromisoformat(value)
        if parsed.year == 1:
            return None
        if parsed.tzinfo is UTC:
            return parsed
        return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("expected an instant") from None


def _drop_nulls(value: dict[str, Any]) -> dict[str, Any] | None:
    """Return a complex value without its null members; None if it has no other."""
    return {name: member for name, member in value.items() if member is not None} or None


def _check_indexable(value: str) -> str:
    if len(value) > MAX_INDEXED_BYTES // 4 and len(value.encode()) > MAX_INDEXED_BYTES:
        raise ValueError(f"longer than the {MAX_INDEXED_BYTES} bytes that an index takes")
    return value


def _sort_texts(values: list[str]) -> list[str]:
    return sorted(values)


def _sort_json(values: Any) -> Any:
    if isinstance(values, list):
        return sorted(values, key=_encode)
    return values


def _choose_parser(column: Property) -> Callable[[Any], Any] | None:
    if column.type is GUID:
        return _parse_guid
    if column.type is TIMESTAMP:
        return _parse_timestamp
    if column.type is DOCUMENT:
        return _drop_nulls
    if column.keeps is not None:
        return msgspec.to_builtins
    if column.key:
        return _parse_opaque_id
    return _check_indexable if column.type is TEXT and column.indexed else None


def _choose_sorter(column: Property) -> Callable[[Any], Any] | None:
    if not column.unordered:
        return None
    return _sort_json if column.type is DOCUMENTS else _sort_texts


def _choose_by_position(
    resource: Resource, choose: Callable[[Property], Callable[[Any], Any] | None]
) -> list[tuple[int, Callable[[Any], Any]]]:
    chosen = ((index, choose(column)) for index, column in enumerate(resource.columns))
    return [(index, function) for index, function in chosen if function is not None]


class RowShape:
    """Converts records to rows, and rows to JSON and hashes, for one resource."""

    def __init__(self, resource: Resource) -> None:
        self.resource = resource
        self.names = resource.column_names
        self.all_columns = (1 << len(self.names)) - 1
        self._conversions = _choose_by_position(resource, _choose_parser)
        self._key = self._conversions[0][1]
        self._unordered = _choose_by_position(resource, _choose_sorter)
        self._encoders = build_encoders(resource.columns)
        self._nested = [column.type in NESTED for column in resource.columns]
        self.sampled = sum(1 << i for i, one in enumerate(resource.columns) if one.sampled)
        told = (column.name for column in resource.told_columns)
        stored = sorted(told, key=lambda name: (len(name), name))
        self._in_jsonb_order = itemgetter(*(self.names.index(name) for name in stored))
        self._struct = msgspec.defstruct(
            f"{resource.name}_row", [(name, Any) for name in stored], gc=False
        )
        fields = msgspec.structs.fields(resource.record)
        position = {field.name: index for index, field in enumerate(fields)}
        sent_as = {field.name: field.encode_name for field in fields}
        self.properties = [sent_as.get(name, name) for name in self.names]
        self._graph_names = {*sent_as.values(), *self.names}
        self._pick_columns = (
            itemgetter(*(position[name] for name in self.names))
            if resource.derive is None and not resource.is_edge
            else None
        )

    def parse_key(self, identity: str) -> str:
        """Return a plain object's key from its id. Raises ValueError if the id is invalid."""
        return str(self._key(identity))

    def row_from_record(self, record: Record) -> tuple[Row, int]:
        """Return the row and a bit for each column that Graph sent.

        Raises ValueError, naming the column, if a value cannot be stored.
        """
        values, present = self._extract_sent(record)
        index = 0
        try:
            for index, convert in self._conversions:
                value = values[index]
                if value is not None:
                    values[index] = convert(value)
        except ValueError as error:
            raise ValueError(f"{self.names[index]}: not storable ({error})") from None
        return tuple(values), present

    def row_without_unstorable(self, record: Record) -> tuple[Row, int, dict[str, str]]:
        """Return the row with nulls for unstorable values, sent bits, and faults by property.

        Raises ValueError if the key cannot be stored.
        """
        values, present = self._extract_sent(record)
        faults = {}
        for index, convert in self._conversions:
            value = values[index]
            try:
                values[index] = None if value is None else convert(value)
            except ValueError as error:
                if not index:
                    raise ValueError(f"{self.names[0]}: not storable ({error})") from None
                values[index] = None
                faults[self.properties[index]] = f"{error}; it is stored as null"
        return tuple(values), present, faults

    def list_sent_properties(self, present: int) -> set[str]:
        """Return the Graph properties that were sent: all except those of absent columns."""
        pairs = enumerate(self.properties)
        return set(self._graph_names) - {name for i, name in pairs if not present >> i & 1}

    def _extract_sent(self, record: Record) -> tuple[list[Any], int]:
        """Return the values, None for those not sent, and a bit for each that was sent."""
        values = self._extract_values(record)
        if UNSET not in values:
            return values, self.all_columns
        present = sum(1 << i for i, value in enumerate(values) if value is not UNSET)
        return [None if value is UNSET else value for value in values], present

    def _extract_values(self, record: Record) -> list[Any]:
        if self._pick_columns is not None:
            return list(self._pick_columns(msgspec.structs.astuple(record)))
        derived = self.resource.derive(record) if self.resource.derive else {}
        return [derived[name] if name in derived else getattr(record, name) for name in self.names]

    def encode_line(self, row: Row) -> bytes:
        """Return the columns in COPY format, without bookkeeping columns."""
        return encode_line(list(row), self._encoders)

    def encode_json(self, row: Row) -> bytes:
        """Return the whole object by column name, as in ``after`` of a created event.

        Sampled columns are left out, as events do not tell them.
        Keys are in jsonb's order: sorting them took a third of jsonb's parsing time.
        """
        return _encode(self._struct(*self._in_jsonb_order(row)))

    def encode_lines(self, rows: Sequence[Row]) -> list[bytes]:
        """Return the COPY lines of many rows."""
        return [line.encode() for line in encode_lines(rows, self.resource.columns)]

    def encode_json_lines(self, rows: Sequence[Row]) -> list[bytes]:
        """Return the JSON of many rows."""
        objects = [self._struct(*self._in_jsonb_order(row)) for row in rows]
        return _encoder.encode_lines(objects).split(b"\n")[:-1]

    def canonicalize(self, row: Row) -> Row:
        """Return the row with unordered lists sorted, for comparing and hashing."""
        values: list[Any] | None = None
        for index, arrange in self._unordered:
            value = row[index]
            if value is not None and len(value) > 1:
                values = list(row) if values is None else values
                values[index] = arrange(value)
        return row if values is None else tuple(values)

    def find_differences(self, old: Row, new: Row) -> list[str]:
        """Return the columns in which two canonical rows differ.

        Nested values are compared as JSON, like their hash: in Python, 1 equals True.
        """
        columns = zip(self.names, self._nested, old, new, strict=True)
        return [
            name
            for name, nested, a, b in columns
            if (_encode(a) != _encode(b) if nested else a != b)
        ]

    def clear_columns(self, row: Row, names: Collection[str]) -> Row:
        """Return a row with nulls in the named columns."""
        return clear_values(row, sum(1 << self.names.index(name) for name in names))

    def select_told(self, names: Sequence[str], untold: int) -> list[str]:
        """Return the columns among ``names`` that events tell: neither sampled nor with a bit."""
        hidden = untold | self.sampled
        if not hidden:
            return list(names)
        return [name for name in names if not hidden >> self.names.index(name) & 1]

    def hash_row(self, row: Row) -> bytes:
        """Return a versioned content hash, independent of the order of unordered lists.

        Nulls at the end do not count, so that a new column keeps the hash of every row stored
        before it was added.
        """
        row = self.canonicalize(row)
        if row[-1] is None:
            length = len(row)
            while length > 1 and row[length - 1] is None:
                length -= 1
            row = row[:length]
        return hash_bytes(_encode(row))

    @staticmethod
    def hash_source(source: Any) -> bytes:
        """Return a versioned hash of the bytes of an object as sent."""
        return hash_bytes(source)

    def encode_columns(self, row: Row, names: Sequence[str]) -> bytes:
        """Return the named columns as JSON: ``before`` and ``after`` of an updated event."""
        return _encode({name: row[self.names.index(name)] for name in names})


@cache
def get_shape(resource: Resource) -> RowShape:
    """Return the shape of a resource, built once."""
    return RowShape(resource)
