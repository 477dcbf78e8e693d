"""An object of which some value is odd: that value is cleaned or null, the others stay exact.

Graph passes on what directories hold: texts with NUL characters or half a surrogate pair, lists
with holes, dates that never were. What cannot be stored must not cost the object. Every fault is
named by its property, never by its value, which may be personal data.
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
from worker.graph.document import reason_of
from worker.graph.fragments import items_of, members_of, plain_text
from worker.nango.reply import UNREADABLE

DEPTH: Final = 64
"""Levels of nested values: many readers of JSON take no more than a hundred."""

_EXACT: Final = 1e15
"""Floats from here on are given back by Postgres in other digits, so they become integers."""

_HALF: Final = dict.fromkeys(range(0xD800, 0xE000), "\N{REPLACEMENT CHARACTER}")
_CLEAN: Final = {0: None, **_HALF}

_NEEDED: Final = ("id", "@removed", "members@delta")
"""Without these it is not known what an object says."""


class Faults:
    """What was wrong with a property, in the order in which it was met."""

    def __init__(self) -> None:
        self._seen: dict[str, None] = {}

    def note(self, fault: str) -> None:
        self._seen[fault] = None

    def __str__(self) -> str:
        return "; ".join(self._seen)


def salvage(resource: Resource, text: str) -> tuple[Record, dict[str, str]]:
    """An object out of its text, and what was wrong with which property.

    Raises ValueError where it cannot be known which object that is or what became of it.
    """
    sent = members_of(text)
    values, faults = {}, {}
    for field in msgspec.structs.fields(resource.record):
        name = field.encode_name
        if name not in sent:
            continue
        if name in _NEEDED:
            values[field.name] = _needed(field, sent[name])
            continue
        wrong = Faults()
        values[field.name] = value_of(field.type, sent[name], wrong)
        if str(wrong):
            faults[name] = str(wrong)
    if "id" not in values:
        raise ValueError("Object missing required field `id`")
    return resource.record(**values), faults


def joined(some: Mapping[str, str], more: Mapping[str, str]) -> dict[str, str]:
    """Faults of two kinds, by property."""
    faults = dict(some)
    for name, fault in more.items():
        faults[name] = f"{faults[name]}; {fault}" if name in faults else fault
    return faults


def member_of(text: str) -> MemberReference:
    """A member out of its text; only its id and whether it left must be in order."""
    with_any_type = members_of(text)
    values = {
        field.name: _needed(field, with_any_type[field.encode_name])
        for field in msgspec.structs.fields(MemberReference)
        if field.encode_name in with_any_type and field.name != "odata_type"
    }
    if "id" not in values:
        raise ValueError("Object missing required field `id`")
    kind = value_of(str | None, with_any_type.get("@odata.type", "null"), Faults())
    return MemberReference(**values, odata_type=kind or "")


def _needed(field: Any, text: str) -> Any:
    name = field.encode_name
    try:
        if name == "members@delta":
            return [member_of(item) for item in items_of(text)]
        value = _decoder(field.type)(text.encode())
    except (*UNREADABLE, ValueError) as fault:
        raise ValueError(f"{name}: {reason_of(fault)}") from None
    if name == "id" and "\0" in value:
        raise ValueError("id: it holds a NUL character")
    return value


@cache
def _decoder(kind: Any) -> Callable[[bytes], Any]:
    return msgspec.json.Decoder(kind).decode


def value_of(kind: Any, text: str, wrong: Faults) -> Any:
    """A value of a type. What cannot be had is null, and it is noted why."""
    if "\\u0000" not in text:
        try:
            return _decoder(kind)(text.encode())
        except msgspec.ValidationError as fault:
            reason = reason_of(fault)
        except (*UNREADABLE, ValueError):
            reason = "it is no proper JSON"
    else:
        reason = "it is no proper value"
    try:
        return _salvaged(_plain_kind(kind), text, wrong)
    except ValueError:
        wrong.note(f"{reason}; it is stored as null")
        return None


def _plain_kind(kind: Any) -> Any:
    """The type of a property, without being absent or null."""
    choice = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    return next(one for one in choice if one not in (msgspec.UnsetType, type(None)))


def _salvaged(kind: Any, text: str, wrong: Faults) -> Any:
    """What can be kept of a value that its decoder refused. Raises ValueError where nothing can."""
    if kind is str:
        return clean(plain_text(text), wrong)
    origin = get_origin(kind) or kind
    if isinstance(origin, type) and issubclass(origin, msgspec.Struct):
        return _facet(origin, text, wrong)
    if origin not in (list, dict):
        raise ValueError("nothing of it can be kept")
    item = get_args(kind)[0] if origin is list else None
    value = _nested(text, wrong)
    if not isinstance(value, origin):
        raise ValueError("nothing of it can be kept")  # noqa: TRY004 - no argument is wrong
    return value if item is None else _of_kind(value, get_origin(item) or item, wrong)


def _of_kind(values: list[Any], kind: type, wrong: Faults) -> list[Any]:
    kept = [value for value in values if isinstance(value, kind)]
    if len(kept) < len(values):
        what = "text" if kind is str else "object"
        wrong.note(f"an element is no {what}; it was left out")
    return kept


def _facet(kind: type[msgspec.Struct], text: str, wrong: Faults) -> msgspec.Struct:
    """A nested struct, property by property."""
    sent = members_of(text)
    values: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        if field.encode_name in sent:
            inner = Faults()
            values[field.name] = value_of(field.type, sent[field.encode_name], inner)
            if str(inner):
                wrong.note(f"{field.encode_name}: {inner}")
    return kind(**values)


def _nested(text: str, wrong: Faults) -> Any:
    """Any JSON that Postgres stores and gives back as it is."""

    def integer(digits: str) -> int | None:
        try:
            return int(digits)
        except ValueError:
            wrong.note("a number is out of range; it is stored as null")
            return None

    def number(digits: str) -> float | int | None:
        value = float(digits)
        if isinf(value):
            constant(digits)
            return None
        if abs(value) >= _EXACT and value == int(value):
            return int(Decimal(repr(value)))
        return value or 0.0

    def constant(_: str) -> None:
        wrong.note("a number is out of range; it is stored as null")

    try:
        value = json.loads(
            text, strict=False, parse_int=integer, parse_float=number, parse_constant=constant
        )
        return _cleaned(value, wrong, DEPTH)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _cleaned(value: Any, wrong: Faults, levels: int) -> Any:
    if isinstance(value, str):
        return clean(value, wrong)
    if not isinstance(value, list | dict):
        return value
    if not levels:
        wrong.note(f"nested more than {DEPTH} levels deep; what is deeper is stored as null")
        return None
    if isinstance(value, list):
        return [_cleaned(one, wrong, levels - 1) for one in value]
    return _cleaned_members(value, wrong, levels - 1)


def _cleaned_members(value: Mapping[str, Any], wrong: Faults, levels: int) -> dict[str, Any]:
    return {clean(name, wrong): _cleaned(one, wrong, levels) for name, one in value.items()}


def clean(text: str, wrong: Faults) -> str:
    """A text as Postgres can hold it: without NUL, without half a surrogate pair."""
    if "\0" in text:
        wrong.note("a NUL character; it was removed")
    cleaned = text.translate(_CLEAN) if not text.isascii() or "\0" in text else text
    if any("\ud800" <= one <= "\udfff" for one in text):
        wrong.note("half of a surrogate pair, or a byte that is not UTF-8; it was replaced")
    return cleaned
