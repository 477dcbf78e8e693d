"""Finds every value of a query or body that is not allowed, and says what is. Pure.

Messages name parameters and what is allowed. They never quote a value that was sent.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import inspect, structs

from worker.web.problem import FieldProblem

MAX_NAME: Final = 100
PRINTABLE: Final = r"^(?![\s\S]*[\u0000-\u001f\u007f])"
"""Without control characters, which neither Postgres nor a terminal should get."""
_NUMBER: Final = re.compile(r"[0-9.eE+-]+")
_MOMENT: Final = "a time with its offset from UTC, such as 2026-01-31T12:00:00Z"

Schema = dict[str, Any]


class DeclaredField(NamedTuple):
    """A field of a query or body, checked by itself."""

    is_required: bool
    alone: type[msgspec.Struct]
    """A struct that has this field only."""
    nested: type[msgspec.Struct] | None
    """What it holds: one of these, or one for each key."""
    is_mapping: bool
    values: frozenset[Any] | None
    """The only values that it, or its list, can have."""
    is_moment: bool
    allowed: str


def find_mistakes(
    given: Mapping[str, Any], declared: type[msgspec.Struct], *, strict: bool, place: str = ""
) -> Iterator[FieldProblem]:
    """Yield what is wrong with each value; without ``strict`` they are texts of a query."""
    fields = _list_fields(declared, strict=strict)
    for name in given:
        if name not in fields:
            known = ", ".join(fields) or "none"
            yield FieldProblem(f"{place}{name}"[:MAX_NAME], f"is not known; known are: {known}")
    for name, field in fields.items():
        path = f"{place}{name}"
        if name in given:
            yield from _check_value(given[name], name, field, path, strict=strict)
        elif field.is_required:
            yield FieldProblem(path, f"must be given: {field.allowed}", field.allowed)


def _check_value(
    value: object, name: str, field: DeclaredField, path: str, *, strict: bool
) -> list[FieldProblem]:
    found = list(_check_inside(value, field, path))
    if not found and not _is_allowed(value, name, field, strict=strict):
        found.append(FieldProblem(path[:MAX_NAME], f"must be {field.allowed}", field.allowed))
    return found


def _check_inside(value: object, field: DeclaredField, path: str) -> Iterator[FieldProblem]:
    if field.nested is None or not isinstance(value, Mapping):
        return
    inner = value if field.is_mapping else {"": value}
    for key, one in inner.items():
        if isinstance(one, Mapping):
            place = f"{path}.{key}." if field.is_mapping else f"{path}."
            yield from find_mistakes(one, field.nested, strict=True, place=place)


def _is_allowed(value: object, name: str, field: DeclaredField, *, strict: bool) -> bool:
    if field.is_moment and isinstance(value, str) and _NUMBER.fullmatch(value):
        return False  # msgspec takes it for Unix seconds: 2026 would be the year 1970
    try:
        msgspec.convert({name: value}, field.alone, strict=strict)
    except msgspec.ValidationError:
        return False
    if field.values is None or value is None:
        return True
    return field.values.issuperset(value if isinstance(value, list) else [value])


@cache
def _list_fields(declared: type[msgspec.Struct], *, strict: bool) -> dict[str, DeclaredField]:
    _, schemas = msgspec.json.schema_components((declared,), ref_template="{name}")
    properties: Schema = schemas[declared.__name__].get("properties", {})
    fields = {}
    for field in structs.fields(declared):
        schema = properties[field.encode_name]
        if not strict and schema.get("type") == "array":
            schema = schema["items"]  # each value of a parameter that may be repeated
        nested, is_mapping = _find_nested(field)
        values = _find_values(schema, schemas)
        fields[field.encode_name] = DeclaredField(
            is_required=field.required,
            alone=msgspec.defstruct("Alone", [(field.encode_name, field.type)]),
            nested=nested,
            is_mapping=is_mapping,
            values=None if values is None else frozenset(values),
            is_moment=schema.get("format") == "date-time",
            allowed=_describe_schema(schema, schemas),
        )
    return fields


def _find_nested(field: structs.FieldInfo) -> tuple[type[msgspec.Struct] | None, bool]:
    alone = inspect.type_info(msgspec.defstruct("Alone", [(field.name, field.type)]))
    assert isinstance(alone, inspect.StructType)
    kind = _unwrap(alone.fields[0].type)
    is_mapping = isinstance(kind, inspect.DictType)
    if isinstance(kind, inspect.DictType):
        kind = _unwrap(kind.value_type)
    return (kind.cls if isinstance(kind, inspect.StructType) else None), is_mapping


def _unwrap(kind: inspect.Type) -> inspect.Type:
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    return kind


def _find_values(schema: Schema, schemas: Schema) -> list[Any] | None:
    """Return the values that a schema, or one item of it, is limited to."""
    if "$ref" in schema:
        return _find_values(schemas[schema["$ref"]], schemas)
    if schema.get("type") == "array":
        return _find_values(schema.get("items", {}), schemas)
    return schema.get("enum")


def _describe_schema(schema: Schema, schemas: Schema) -> str:
    """Return what a schema allows, to follow "must be"."""
    if "$ref" in schema:
        return _describe_schema(schemas[schema["$ref"]], schemas)
    if "anyOf" in schema:
        return " or ".join(_describe_schema(one, schemas) for one in schema["anyOf"])
    if "enum" in schema:
        return f"one of: {', '.join(map(str, schema['enum']))}"
    if schema["type"] == "array":
        most = f" of at most {schema['maxItems']}" if "maxItems" in schema else ""
        return f"a list{most}, each {_describe_schema(schema['items'], schemas)}"
    return _DESCRIBERS[schema["type"]](schema)


def _describe_range(schema: Schema) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    return "a whole number" + (f" from {low} to {high}" if high is not None else "")


def _describe_object(schema: Schema) -> str:
    most = schema.get("maxProperties")
    low = schema.get("minProperties", 0)
    return f"an object of {low} to {most} fields, each an object" if most else "an object"


def _describe_text(schema: Schema) -> str:
    if schema.get("format") == "date-time":
        return _MOMENT
    least, most = schema.get("minLength", 0), schema.get("maxLength")
    text = f"a text of {least} to {most} characters" if most else "a text"
    pattern = schema.get("pattern")
    if pattern == PRINTABLE:
        return f"{text} without control characters"
    return f"{text} of the form {pattern}" if pattern else text


_DESCRIBERS: Final[Mapping[str, Callable[[Schema], str]]] = {
    "integer": _describe_range,
    "boolean": lambda _: "true or false",
    "string": _describe_text,
    "object": _describe_object,
    "null": lambda _: "null",
}
