"""Decodes queries and bodies into their structs, and says which values are wrong.

Messages name parameters and what is allowed. They never quote a value that was sent.
"""

import re
from functools import cache
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl

import msgspec
from msgspec import inspect, structs

from worker.web.problem import FieldProblem, RequestRefused

MAX_QUERY_BYTES: Final = 4096
MAX_PARAMETERS: Final = 50
MAX_BODY_BYTES: Final = 64 * 1024
JSON_TYPE: Final = "application/json"

_PLACE: Final = re.compile(r" - at `\$(.*)`$", re.DOTALL)
_FIELD: Final = re.compile(r"missing required field `(\w+)`")
_ENUM: Final = re.compile(r"Invalid enum value .*", re.DOTALL)
_MAX_NAME: Final = 100

Decoded = TypeVar("Decoded", bound=msgspec.Struct)


def decode_query(raw: bytes, declared: type[Decoded]) -> Decoded:
    """Return the parameters of a query. Raises RequestRefused."""
    if len(raw) > MAX_QUERY_BYTES:
        raise RequestRefused(
            414, "query-too-long", f"the query is longer than {MAX_QUERY_BYTES} bytes"
        )
    lists = _list_parameters(declared)
    values: dict[str, Any] = {}
    for name, text in _split_query(raw):
        if name not in lists:
            known = ", ".join(lists) or "none"
            raise _refuse_values(FieldProblem(name[:_MAX_NAME], f"unknown; known are: {known}"))
        if lists[name]:
            values.setdefault(name, []).append(text)
        elif name in values:
            raise _refuse_values(FieldProblem(name, "may be given only once"))
        else:
            values[name] = text
    return _convert(values, declared, strict=False)


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
        raise _refuse_values(FieldProblem("", "must be an object"))
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


def _convert(values: dict[str, Any], declared: type[Decoded], *, strict: bool) -> Decoded:
    try:
        return msgspec.convert(values, declared, strict=strict)
    except msgspec.ValidationError as error:
        raise _refuse_values(_describe_mistake(str(error))) from None


def _refuse_values(problem: FieldProblem) -> RequestRefused:
    place = f"'{problem.name}'" if problem.name else "the body"
    return RequestRefused(422, "invalid", f"{place}: {problem.detail}", errors=(problem,))


def _describe_mistake(message: str) -> FieldProblem:
    """Return what msgspec found, without the value."""
    place = _PLACE.search(message)
    name = place[1].lstrip(".") if place else ""
    detail = message[: place.start()] if place else message
    if missing := _FIELD.search(detail):
        name, detail = f"{name}.{missing[1]}".lstrip("."), "must be given"
    elif detail.startswith("Object contains unknown field"):
        detail = "has a field that is not known"
    elif _ENUM.match(detail):
        detail = "is none of the allowed values"
    elif "matching regex" in detail:
        detail = "has a form or characters that are not allowed"
    return FieldProblem(name[:_MAX_NAME], detail.replace("`", ""))
