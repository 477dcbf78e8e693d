"""Decodes queries, forms and bodies into their structs, and says which values are wrong.

Messages name parameters and what is allowed. They never quote a value that was sent.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from itertools import islice
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl

import msgspec
from msgspec import inspect, structs

from worker.web.mistakes import MAX_NAME, find_mistakes
from worker.web.problem import FieldProblem, RequestRefused, refuse_values

MAX_QUERY_BYTES: Final = 4096
MAX_PARAMETERS: Final = 50
MAX_FIELDS: Final = 300
"""Of a form: the connections of one page, and the rest."""
MAX_BODY_BYTES: Final = 64 * 1024
JSON_TYPE: Final = "application/json"
FORM_TYPE: Final = "application/x-www-form-urlencoded"

_LISTS: Final = (inspect.ListType, inspect.VarTupleType)
_MAX_MISTAKES: Final = 50
"""An answer does not list more."""

Decoded = TypeVar("Decoded", bound=msgspec.Struct)


def decode_query(raw: bytes, declared: type[Decoded], *, drops_empty: bool = False) -> Decoded:
    """Return the parameters of a query. Raises RequestRefused.

    With ``drops_empty`` one without text counts as not given, as browsers send every field.
    """
    if len(raw) > MAX_QUERY_BYTES:
        raise RequestRefused(
            414, "query-too-long", f"the query is longer than {MAX_QUERY_BYTES} bytes"
        )
    pairs = _split_pairs(raw, MAX_PARAMETERS, "the query")
    return _convert_pairs(_drop_empty(pairs) if drops_empty else pairs, declared)


def decode_form(raw: bytes, content_type: str | None, declared: type[Decoded]) -> Decoded:
    """Return the fields of a form that a browser sends; an empty one counts as not given.

    Raises RequestRefused.
    """
    if raw and (content_type or "").partition(";")[0].strip().lower() != FORM_TYPE:
        raise RequestRefused(
            415, "media-type", f"send the form as '{FORM_TYPE}'", headers={"Accept": FORM_TYPE}
        )
    return _convert_pairs(_drop_empty(_split_pairs(raw, MAX_FIELDS, "the form")), declared)


def _drop_empty(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name, text) for name, text in pairs if text]


def _convert_pairs(pairs: Iterable[tuple[str, str]], declared: type[Decoded]) -> Decoded:
    lists = _list_parameters(declared)
    values: dict[str, Any] = {}
    repeated: dict[str, FieldProblem] = {}
    for name, text in pairs:
        if lists.get(name):
            values.setdefault(name, []).append(text)
        elif name in values and name in lists:
            repeated[name] = FieldProblem(name[:MAX_NAME], "may be given only once")
        else:
            values[name] = text
    return _convert(values, declared, repeated.values(), strict=False)


def decode_body(raw: bytes, content_type: str | None, declared: type[Decoded]) -> Decoded:
    """Return a body of JSON; an empty one has only defaults. Raises RequestRefused."""
    if not raw and content_type is None:
        return _convert({}, declared, strict=True)
    if (content_type or "").partition(";")[0].strip().lower() != JSON_TYPE:
        raise RequestRefused(
            415,
            "media-type",
            f"send the body as '{JSON_TYPE}'",
            headers={"Accept": JSON_TYPE},
        )
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise RequestRefused(400, "malformed", "the body is not valid JSON") from None
    if not isinstance(value, dict):
        raise refuse_values(FieldProblem("", "must be an object", "an object"))
    return _convert(value, declared, strict=True)


@cache
def _list_parameters(declared: type[msgspec.Struct]) -> dict[str, bool]:
    """Return the names of all parameters, and whether each may be repeated."""
    return {
        field.encode_name: isinstance(_unwrap(inspect.type_info(field.type)), _LISTS)
        for field in structs.fields(declared)
    }


def _unwrap(kind: inspect.Type) -> inspect.Type:
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    return kind


def _split_pairs(raw: bytes, most: int, what: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(
            raw.decode("ascii"), keep_blank_values=True, max_num_fields=most, errors="strict"
        )
    except ValueError:
        raise RequestRefused(
            400, "malformed", f"{what} has over {most} parameters, or is not UTF-8"
        ) from None


def _convert(
    values: Mapping[str, Any],
    declared: type[Decoded],
    problems: Iterable[FieldProblem] = (),
    *,
    strict: bool,
) -> Decoded:
    found = [*problems, *islice(find_mistakes(values, declared, strict=strict), _MAX_MISTAKES)]
    if found:
        raise refuse_values(*found)
    return msgspec.convert(values, declared, strict=strict)
