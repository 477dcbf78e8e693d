"""Values as COPY's text format spells them. https://www.postgresql.org/docs/current/sql-copy.html

Lines are made where there is time for it: beside the loader, while Postgres takes the last page.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import ARRAY, Boolean, Column, DateTime
from sqlalchemy.dialects.postgresql import JSONB

NULL: Final = "\\N"
_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_encoder = msgspec.json.Encoder()
_encode = _encoder.encode

Converter = Callable[[Any], str]


def converters(columns: Iterable[Column[Any]]) -> list[tuple[int, Converter]]:
    """How the columns that are not text become text, by position."""
    chosen = ((index, converter(column)) for index, column in enumerate(columns))
    return [(index, convert) for index, convert in chosen if convert is not None]


def converter(column: Column[Any]) -> Converter | None:
    """How one column's values become text that Postgres reads; None where they are text."""
    return next((convert for kind, convert in _CONVERTERS if isinstance(column.type, kind)), None)


def _boolean_text(value: bool) -> str:  # noqa: FBT001 - a value of a column
    return "t" if value else "f"


def _instant_text(value: datetime) -> str:
    """ISO 8601; four times as fast as ``isoformat``."""
    return _encode(value)[1:-1].decode()


def json_text(value: Any) -> str:
    return _encode(value).decode()


def array_literal(values: list[str]) -> str:
    """A list of texts as Postgres writes an array: like JSON, but for brackets and escapes."""
    text = _encode(values)
    if b"\\" not in text:
        return f"{{{text[1:-1].decode()}}}"
    quoted = (value.replace("\\", "\\\\").replace('"', '\\"') for value in values)
    return '{"' + '","'.join(quoted) + '"}'


_CONVERTERS: Final[tuple[tuple[Any, Converter], ...]] = (
    (JSONB, json_text),
    (ARRAY, array_literal),
    (DateTime, _instant_text),
    (Boolean, _boolean_text),
)


def escaped(text: str) -> str:
    """A text as COPY wants it between two tabs."""
    return text.translate(_ESCAPES)


def escaped_json(text: bytes) -> bytes:
    """JSON as COPY wants it: it holds no raw control characters, only backslashes."""
    return text.replace(b"\\", b"\\\\") if b"\\" in text else text


def lines_of(rows: Sequence[Sequence[Any]], columns: Iterable[Column[Any]]) -> list[str]:
    """Many rows at once, as ``line_of`` spells each: by column, in two thirds of the time."""
    together = zip(columns, zip(*rows, strict=True), strict=bool(rows))
    spelt = [_speller(column)(values) for column, values in together]
    return ["\t".join(values) for values in zip(*spelt, strict=True)]


def _speller(column: Column[Any]) -> Callable[[Sequence[Any]], list[str]]:
    """How a column's values are spelt, all together."""
    return next((spell for kind, spell in _SPELLERS if isinstance(column.type, kind)), _texts)


def _texts(values: Sequence[Any]) -> list[str]:
    texts = [NULL if value is None else value for value in values]
    together = "\t".join(texts)
    if _is_plain(together, values.count(None), len(texts)):
        return texts
    return [NULL if value is None else escaped(value) for value in values]


def _words(values: Sequence[Any]) -> list[str]:
    """Instants and booleans: in JSON they hold neither commas nor escapes."""
    text = _encode(values)[1:-1].decode().replace('"', "").replace("null", NULL)
    return text.replace("true", "t").replace("false", "f").split(",")


def _arrays(values: Sequence[Any]) -> list[str]:
    text = _lines(values)
    if "\\" in text:
        return [NULL if value is None else escaped(array_literal(value)) for value in values]
    # A line ends where a value does: JSON has no raw newlines.
    text = text.replace("\n[", "\n{").replace("]\n", "}\n").replace("\nnull", f"\n{NULL}")
    return text[1:-1].split("\n")


def _documents(values: Sequence[Any]) -> list[str]:
    text = _lines(values).replace("\\", "\\\\").replace("\nnull", f"\n{NULL}")
    return text[1:-1].split("\n")


def _lines(values: Sequence[Any]) -> str:
    """Values as lines of JSON, with a newline ahead of the first, too."""
    return "\n" + _encoder.encode_lines(values).decode()


_SPELLERS: Final[tuple[tuple[Any, Callable[[Sequence[Any]], list[str]]], ...]] = (
    (JSONB, _documents),
    (ARRAY, _arrays),
    (DateTime, _words),
    (Boolean, _words),
)


def _is_plain(joined: str, nulls: int, number: int) -> bool:
    """Whether so many values with tabs between them need no escapes; nulls are spelt already."""
    return (
        joined.count("\\") == nulls
        and joined.count("\t") == number - 1
        and "\n" not in joined
        and "\r" not in joined
    )


def line_of(values: list[Any], convert: list[tuple[int, Converter]]) -> bytes:
    """A row's columns, tab-separated. ``values`` is used up."""
    for index, text in convert:
        value = values[index]
        if value is not None:
            values[index] = text(value)
    nulls = values.count(None)
    line = "\t".join([NULL if value is None else value for value in values])
    if not _is_plain(line, nulls, len(values)):
        line = "\t".join([NULL if value is None else escaped(value) for value in values])
    return line.encode()
