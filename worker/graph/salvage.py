"""Salvages objects with malformed values: those are cleaned or null, the others stay exact.

Graph passes on what directories hold: texts with NUL characters or half a surrogate pair, lists
with nulls, impossible dates. One unstorable value must not lose the object. Every fault is recorded
by its property, never by its value, which may be personal data.
"""

import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import cache
from math import isinf
from types import UnionType
from typing import Any, Final, Union, get_args, get_origin

import msgspec

from models.record import MemberReference, Record
from models.resource import Resource
from worker.graph.json_scanner import parse_string, split_array, split_object
from worker.graph.page_scanner import describe_error
from worker.nango.response import JSON_ERRORS

MAX_DEPTH: Final = 64
"""Levels of nested values; many JSON parsers accept no more than a hundred."""

_EXACT_LIMIT: Final = 1e15
"""Postgres returns floats from here on in other digits, so they become integers."""

_SURROGATES: Final = dict.fromkeys(range(0xD800, 0xE000), "\N{REPLACEMENT CHARACTER}")
_CLEAN_TABLE: Final = {0: None, **_SURROGATES}

_REQUIRED: Final = ("id", "@removed")
"""Properties without which an object has no meaning, and so have its relations."""

_RELATION: Final = "@delta"
"""Ends the name of a relation, such as ``members@delta``."""


class ValueFaults:
    """The faults of a property, in the order in which they were found."""

    def __init__(self) -> None:
        self._seen: dict[str, None] = {}

    def note(self, fault: str) -> None:
        self._seen[fault] = None

    def __str__(self) -> str:
        return "; ".join(self._seen)


def salvage_record(resource: Resource, text: str) -> tuple[Record, dict[str, str]]:
    """Parse an object; return it and its faults by property.

    Raises ValueError if its id, its removal or one of its relations cannot be read.
    """
    sent = split_object(text)
    values, faults = {}, {}
    for field in msgspec.structs.fields(resource.record):
        name = field.encode_name
        if name not in sent:
            continue
        if name in _REQUIRED or name.endswith(_RELATION):
            values[field.name] = _decode_required(field, sent[name])
            continue
        wrong = ValueFaults()
        values[field.name] = salvage_value(field.type, sent[name], wrong)
        if str(wrong):
            faults[name] = str(wrong)
    if "id" not in values:
        raise ValueError("Object missing required field `id`")
    return resource.record(**values), faults


def merge_faults(some: Mapping[str, str], more: Mapping[str, str]) -> dict[str, str]:
    """Merge two mappings of faults by property."""
    faults = dict(some)
    for name, fault in more.items():
        faults[name] = f"{faults[name]}; {fault}" if name in faults else fault
    return faults


def parse_member(text: str) -> MemberReference:
    """Parse a member; only its id and its removal must be well-formed."""
    with_any_type = split_object(text)
    values = {
        field.name: _decode_required(field, with_any_type[field.encode_name])
        for field in msgspec.structs.fields(MemberReference)
        if field.encode_name in with_any_type and field.name != "odata_type"
    }
    if "id" not in values:
        raise ValueError("Object missing required field `id`")
    kind = salvage_value(str | None, with_any_type.get("@odata.type", "null"), ValueFaults())
    return MemberReference(**values, odata_type=kind or "")


def _decode_required(field: Any, text: str) -> Any:
    name = field.encode_name
    try:
        if name.endswith(_RELATION):
            return [parse_member(item) for item in split_array(text)]
        value = _build_decoder(field.type)(text.encode())
    except (*JSON_ERRORS, ValueError) as error:
        raise ValueError(f"{name}: {describe_error(error)}") from None
    if name == "id" and "\0" in value:
        raise ValueError("id: it holds a NUL character")
    return value


@cache
def _build_decoder(kind: Any) -> Callable[[bytes], Any]:
    return msgspec.json.Decoder(kind).decode


def salvage_value(kind: Any, text: str, faults: ValueFaults) -> Any:
    """Parse a value of a type. Unusable values become null, and the fault is recorded."""
    if "\\u0000" not in text:
        try:
            return _build_decoder(kind)(text.encode())
        except msgspec.ValidationError as error:
            reason = describe_error(error)
        except (*JSON_ERRORS, ValueError):
            reason = "it is no proper JSON"
    else:
        reason = "it is no proper value"
    try:
        return _salvage_plain(_strip_optional(kind), text, faults)
    except ValueError:
        faults.note(f"{reason}; it is stored as null")
        return None


def _strip_optional(kind: Any) -> Any:
    """Return the type of a property without None and UnsetType."""
    choice = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    return next(one for one in choice if one not in (msgspec.UnsetType, type(None)))


def _salvage_plain(kind: Any, text: str, faults: ValueFaults) -> Any:
    """Return the usable part of a value that its decoder rejected, or raise ValueError."""
    if kind is str:
        return clean_text(parse_string(text), faults)
    origin = get_origin(kind) or kind
    if isinstance(origin, type) and issubclass(origin, msgspec.Struct):
        return _salvage_struct(origin, text, faults)
    if origin not in (list, dict):
        raise ValueError("no part of it can be kept")
    item = get_args(kind)[0] if origin is list else None
    if isinstance(item, type) and issubclass(item, msgspec.Struct):
        return _salvage_structs(item, text, faults)
    value = _parse_nested(text, faults)
    if not isinstance(value, origin):
        raise ValueError("no part of it can be kept")  # noqa: TRY004 - no argument is wrong
    return value if item is None else _keep_kind(value, get_origin(item) or item, faults)


def _keep_kind(values: list[Any], kind: type, faults: ValueFaults) -> list[Any]:
    kept = [value for value in values if isinstance(value, kind)]
    if len(kept) < len(values):
        what = "text" if kind is str else "object"
        faults.note(f"an element is not {what}; it was omitted")
    return kept


def _salvage_structs(
    kind: type[msgspec.Struct], text: str, faults: ValueFaults
) -> list[msgspec.Struct]:
    """Parse a list of structs, one by one; what is none is left out. Other fields are not read."""
    kept = []
    for one in split_array(text):
        try:
            kept.append(_salvage_struct(kind, one, faults))
        except ValueError:
            faults.note("an element is not object; it was omitted")
    return kept


def _salvage_struct(kind: type[msgspec.Struct], text: str, faults: ValueFaults) -> msgspec.Struct:
    """Parse a nested struct, property by property.

    Raises ValueError if it lacks what it has no meaning without.
    """
    sent = split_object(text)
    values: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        inner = ValueFaults()
        if field.encode_name in sent:
            values[field.name] = salvage_value(field.type, sent[field.encode_name], inner)
        if field.required and values.get(field.name) is None:
            raise ValueError("no part of it can be kept")
        if str(inner):
            faults.note(f"{field.encode_name}: {inner}")
    return kind(**values)


def _parse_nested(text: str, faults: ValueFaults) -> Any:
    """Parse any JSON into a value that Postgres stores and returns unchanged."""

    def integer(digits: str) -> int | None:
        try:
            return int(digits)
        except ValueError:
            faults.note("a number is out of range; it is stored as null")
            return None

    def number(digits: str) -> float | int | None:
        value = float(digits)
        if isinf(value):
            constant(digits)
            return None
        if abs(value) >= _EXACT_LIMIT and value == int(value):
            return int(Decimal(repr(value)))
        return value or 0.0

    def constant(_: str) -> None:
        faults.note("a number is out of range; it is stored as null")

    try:
        value = json.loads(
            text, strict=False, parse_int=integer, parse_float=number, parse_constant=constant
        )
        return _clean_value(value, faults, MAX_DEPTH)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _clean_value(value: Any, faults: ValueFaults, levels: int) -> Any:
    if isinstance(value, str):
        return clean_text(value, faults)
    if not isinstance(value, list | dict):
        return value
    if not levels:
        faults.note(f"nested more than {MAX_DEPTH} levels deep; what is deeper is stored as null")
        return None
    if isinstance(value, list):
        return [_clean_value(one, faults, levels - 1) for one in value]
    return _clean_object(value, faults, levels - 1)


def _clean_object(value: Mapping[str, Any], faults: ValueFaults, levels: int) -> dict[str, Any]:
    return {
        clean_text(name, faults): _clean_value(one, faults, levels) for name, one in value.items()
    }


def clean_text(text: str, faults: ValueFaults) -> str:
    """Remove NUL and replace lone surrogates, which Postgres cannot store."""
    if "\0" in text:
        faults.note("a NUL character; it was removed")
    cleaned = text.translate(_CLEAN_TABLE) if not text.isascii() or "\0" in text else text
    if any("\ud800" <= one <= "\udfff" for one in text):
        faults.note("half of a surrogate pair, or a byte that is not UTF-8; it was replaced")
    return cleaned
