"""Decodes queries and bodies into their structs, and says which values are wrong.

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
MAX_BODY_BYTES: Final = 64 * 1024
JSON_TYPE: Final = "application/json"

_MAX_MISTAKES: Final = 50
"""An answer does not list more."""

Decoded = TypeVar("Decoded", bound=msgspec.Struct)


def decode_query(raw: bytes, declared: type[Decoded]) -> Decoded:
    """Return the parameters of a query. Raises RequestRefused."""
    if len(raw) > MAX_QUERY_BYTES:
        raise RequestRefused(
            414, "query-too-long", f"the query is longer than {MAX_QUERY_BYTES} bytes"
        )
    lists = _list_parameters(declared)
    values: dict[str, Any] = {}
    repeated: dict[str, FieldProblem] = {}
    for name, text in _split_query(raw):
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
        field.encode_name: isinstance(_unwrap(inspect.type_info(field.type)), inspect.ListType)
        for field in structs.fields(declared)
    }


def _unwrap(kind: inspect.Type) -> inspect.Type:
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    return kind


def _split_query(raw: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(
            raw.decode("ascii"),
            keep_blank_values=True,
            max_num_fields=MAX_PARAMETERS,
            errors="strict",
        )
    except ValueError:
        raise RequestRefused(
            400, "malformed", f"the query has over {MAX_PARAMETERS} parameters, or is not UTF-8"
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
