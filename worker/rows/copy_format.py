"""Encoding of values in COPY's text format. https://www.postgresql.org/docs/current/sql-copy.html

Lines are built in the decoding thread, while Postgres loads the previous page.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from models.property import (
    BOOLEAN,
    DOCUMENT,
    DOCUMENTS,
    INTEGER,
    TEXTS,
    TIMESTAMP,
    Property,
    ValueType,
)

NULL: Final = "\\N"
_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_encoder = msgspec.json.Encoder()
_encode = _encoder.encode

ValueEncoder = Callable[[Any], str]


def build_encoders(columns: Iterable[Property]) -> list[tuple[int, ValueEncoder]]:
    """Return encoders of the columns that are not text, with their positions."""
    chosen = ((index, _VALUE_ENCODERS.get(column.type)) for index, column in enumerate(columns))
    return [(index, convert) for index, convert in chosen if convert is not None]


def _encode_boolean(value: bool) -> str:  # noqa: FBT001 - a value of a column
    return "t" if value else "f"


def _encode_timestamp(value: datetime) -> str:
    """Return ISO 8601 text, four times as fast as ``isoformat``."""
    return _encode(value)[1:-1].decode()


def encode_json(value: Any) -> str:
    return _encode(value).decode()


def encode_array(values: list[str]) -> str:
    """Return an array literal of Postgres: like JSON, except brackets and escapes."""
    text = _encode(values)
    if b"\\" not in text:
        return f"{{{text[1:-1].decode()}}}"
    quoted = (value.replace("\\", "\\\\").replace('"', '\\"') for value in values)
    return '{"' + '","'.join(quoted) + '"}'


_VALUE_ENCODERS: Final[dict[ValueType, ValueEncoder]] = {
    DOCUMENT: encode_json,
    DOCUMENTS: encode_json,
    TEXTS: encode_array,
    TIMESTAMP: _encode_timestamp,
    BOOLEAN: _encode_boolean,
    INTEGER: str,
}
"""Encoders of single values to Postgres's text; values of other types are text already."""


def escape(text: str) -> str:
    """Escape a text for a COPY field."""
    return text.translate(_ESCAPES)


def escape_json(text: bytes) -> bytes:
    """Escape JSON for a COPY field: it has no raw control characters, only backslashes."""
    return text.replace(b"\\", b"\\\\") if b"\\" in text else text


def encode_lines(rows: Sequence[Sequence[Any]], columns: Iterable[Property]) -> list[str]:
    """Encode many rows as ``encode_line`` does, but by column, in two thirds of the time."""
    together = zip(columns, zip(*rows, strict=True), strict=bool(rows))
    spelt = [
        _COLUMN_ENCODERS.get(column.type, _encode_texts)(values) for column, values in together
    ]
    return ["\t".join(values) for values in zip(*spelt, strict=True)]


def _encode_texts(values: Sequence[Any]) -> list[str]:
    texts = [NULL if value is None else value for value in values]
    together = "\t".join(texts)
    if _needs_no_escapes(together, values.count(None), len(texts)):
        return texts
    return [NULL if value is None else escape(value) for value in values]


def _encode_scalars(values: Sequence[Any]) -> list[str]:
    """Encode times, booleans and integers, whose JSON has neither commas nor escapes."""
    text = _encode(values)[1:-1].decode().replace('"', "").replace("null", NULL)
    return text.replace("true", "t").replace("false", "f").split(",")


def _encode_arrays(values: Sequence[Any]) -> list[str]:
    text = _join_json_lines(values)
    if "\\" in text:
        return [NULL if value is None else escape(encode_array(value)) for value in values]
    # Each line is one value, as JSON has no raw newlines.
    text = text.replace("\n[", "\n{").replace("]\n", "}\n").replace("\nnull", f"\n{NULL}")
    return text[1:-1].split("\n")


def _encode_documents(values: Sequence[Any]) -> list[str]:
    text = _join_json_lines(values).replace("\\", "\\\\").replace("\nnull", f"\n{NULL}")
    return text[1:-1].split("\n")


def _join_json_lines(values: Sequence[Any]) -> str:
    """Return values as lines of JSON, with a newline before the first as well."""
    return "\n" + _encoder.encode_lines(values).decode()


_COLUMN_ENCODERS: Final[dict[ValueType, Callable[[Sequence[Any]], list[str]]]] = {
    DOCUMENT: _encode_documents,
    DOCUMENTS: _encode_documents,
    TEXTS: _encode_arrays,
    TIMESTAMP: _encode_scalars,
    BOOLEAN: _encode_scalars,
    INTEGER: _encode_scalars,
}
"""Encoders of all values of a column at once."""


def _needs_no_escapes(joined: str, nulls: int, number: int) -> bool:
    """Whether tab-separated values need no escapes; nulls are encoded already."""
    return (
        joined.count("\\") == nulls
        and joined.count("\t") == number - 1
        and "\n" not in joined
        and "\r" not in joined
    )


def encode_line(values: list[Any], convert: list[tuple[int, ValueEncoder]]) -> bytes:
    """Return a row's columns, tab-separated. Changes ``values``."""
    for index, text in convert:
        value = values[index]
        if value is not None:
            values[index] = text(value)
    nulls = values.count(None)
    line = "\t".join([NULL if value is None else value for value in values])
    if not _needs_no_escapes(line, nulls, len(values)):
        line = "\t".join([NULL if value is None else escape(value) for value in values])
    return line.encode()
