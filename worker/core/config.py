"""Loads settings by their declaration, and reports every mistake at once.

A declaration is a msgspec Struct. Each field has a type, bounds, a meaning and mostly a default, as
``Annotated[int, Meta(ge=1, description="...")] = 7``. ``load_values`` reads the settings of the
environment, of a customer and of a sink alike. What msgspec cannot express is a ``Rule``.
"""

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import inspect, structs

from worker.core.secret import Certificates, SecretStr

MAX_QUOTED: Final = 20
"""Longest text that a message quotes; what is longer may be a secret at the wrong place."""
MAX_QUOTED_NAME: Final = 40

_WHOLE_NUMBER: Final = re.compile(r"\s*[+-]?[0-9]+(?:_[0-9]+)*(?:\.0+)?\s*", re.ASCII)
_QUOTED_NUMBERS: Final = 10**15
_JSON_WORDS: Final = {"None": "null", "True": "true", "False": "false"}
_TYPE_NAMES: Final = ((Mapping, "an object"), ((list, tuple), "a list"), (SecretStr, "a secret"))
_QUOTED_TYPES: Final = (
    inspect.IntType,
    inspect.FloatType,
    inspect.BoolType,
    inspect.LiteralType,
    inspect.StrType,
)


class Rule(NamedTuple):
    """What a declaration adds to a field's type and bounds."""

    check: Callable[[Any], object] | None = None
    """Takes the converted value and returns the one to use, or raises ValueError. Its text follows
    the setting's name, quotes nothing that may be secret, and says what is allowed."""
    allowed: str = ""
    """What is allowed, where the type and its bounds do not say it: "must be ..."."""
    is_hidden: bool = False
    """Whether the value may hold a secret, so that no message quotes it."""


def build_rule(
    *,
    check: Callable[[Any], object] | None = None,
    allowed: str = "",
    is_hidden: bool = False,
) -> msgspec.Meta:
    """Return the annotation that adds a rule to a field."""
    return msgspec.Meta(extra={"rule": Rule(check, allowed, is_hidden)})


@dataclass(frozen=True)
class Setting:
    """One declared setting."""

    field: str
    name: str
    """What it is called where it is set, such as the environment variable."""
    default: object
    description: str
    is_required: bool
    rule: Rule
    annotation: Any
    type: inspect.Type
    """Its type without annotations and without None."""

    @property
    def allowed(self) -> str:
        """What is allowed, to follow "must be"."""
        return self.rule.allowed or _describe_type(self.type)

    @property
    def is_hidden(self) -> bool:
        """Whether no message may quote the value."""
        kind = self.type
        while isinstance(kind, inspect.VarTupleType):
            kind = _unwrap_type(kind.item_type)[0]
        return self.rule.is_hidden or not isinstance(kind, _QUOTED_TYPES)


class Mistake(NamedTuple):
    """A setting that cannot be used."""

    name: str
    problem: str
    """What is wrong and what is allowed, as a text that follows the name."""

    def __str__(self) -> str:
        return f"{self.name} {self.problem}"


class LoadedValues(NamedTuple):
    """The values that can be used, by field, and every mistake."""

    values: dict[str, Any]
    mistakes: list[Mistake]


@cache
def list_settings(declaration: type[msgspec.Struct]) -> Mapping[str, Setting]:
    """Return the settings of a declaration by field."""
    found = {}
    for field in structs.fields(declaration):
        kind, description, rule = _unwrap_type(inspect.type_info(field.type))
        found[field.name] = Setting(
            field=field.name,
            name=field.encode_name,
            default=field.default,
            description=description,
            is_required=field.required,
            rule=rule,
            annotation=field.type,
            type=kind,
        )
    return found


def load_values(
    declaration: type[msgspec.Struct],
    given: Mapping[str, object],
    *,
    owner: str = "",
    parses_text: bool = False,
    unquoted: Collection[str] = (),
) -> LoadedValues:
    """Convert the given values, each by itself, and collect what is wrong with the others.

    With ``parses_text``, numbers and lists may be written as texts. ``owner`` is what the settings
    belong to, for messages, and ``unquoted`` has the names of values that no message may quote.
    """
    settings = {setting.name: setting for setting in list_settings(declaration).values()}
    loaded = LoadedValues({}, [])
    for name, setting in settings.items():
        if name not in given:
            if setting.is_required:
                loaded.mistakes.append(Mistake(name, f"must be given: {setting.allowed}"))
            continue
        value = _parse_text(setting.type, given[name]) if parses_text else given[name]
        try:
            loaded.values[setting.field] = _convert(setting, value)
        except ValueError as error:
            is_quoted = name not in unquoted and not setting.is_hidden
            quoted = f", not {_render_value(given[name])}" if is_quoted else ""
            problem = _find_own_text(error) or f"must be {setting.allowed}{quoted}"
            loaded.mistakes.append(Mistake(name, problem))
    unknown = [name for name in given if name not in settings]
    if unknown:
        loaded.mistakes.append(_report_unknown(unknown, list(settings), owner))
    return loaded


def _unwrap_type(kind: inspect.Type) -> tuple[inspect.Type, str, Rule]:
    """Return a type without annotations and None, and what the annotations say."""
    description, rule = "", Rule()
    while isinstance(kind, inspect.Metadata | inspect.UnionType):
        if isinstance(kind, inspect.Metadata):
            description = (kind.extra_json_schema or {}).get("description", description)
            rule = (kind.extra or {}).get("rule", rule)
            kind = kind.type
        else:
            (kind,) = (one for one in kind.types if not isinstance(one, inspect.NoneType))
    return kind, description, rule


def _convert(setting: Setting, value: object) -> object:
    made = msgspec.convert(value, setting.annotation, dec_hook=_decode_custom)
    if setting.rule.check is None or made is None:
        return made
    return setting.rule.check(made)


def _decode_custom(kind: type, value: object) -> object:
    if isinstance(value, kind):
        return value
    if not isinstance(value, str):
        raise ValueError("must be a text")  # noqa: TRY004 - msgspec reports it as a mistake
    if kind is Certificates:
        return Certificates.from_text(value)
    assert kind in (SecretStr, Path), kind
    return kind(value)


def _find_own_text(error: ValueError) -> str | None:
    """Return the text of a rule or type of ours, or None for an error of msgspec or Python."""
    own = error.__cause__ if isinstance(error, msgspec.ValidationError) else error
    return str(own) if type(own) is ValueError else None


def _parse_text(kind: inspect.Type, value: object) -> object:
    """Return the value that a text means for a type; what cannot be parsed stays as it is."""
    match kind, value:
        case inspect.IntType(), str() if _WHOLE_NUMBER.fullmatch(value):
            return _parse_int(value)
        case inspect.IntType(), float() if value.is_integer():
            return int(value)
        case inspect.FloatType(), str() if value.isascii():
            return _parse_float(value)
        case inspect.VarTupleType(), str():
            return tuple(part.strip() for part in value.split(",") if part.strip())
        case _:
            return value


def _parse_int(text: str) -> int | str:
    try:
        return int(text.partition(".")[0])
    except ValueError:  # thousands of digits
        return text


def _parse_float(text: str) -> float | str:
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text


def _describe_type(kind: inspect.Type) -> str:
    match kind:
        case inspect.IntType():
            return f"a whole number{_describe_bounds(kind)}"
        case inspect.FloatType():
            return f"a number{_describe_bounds(kind)}"
        case inspect.BoolType():
            return "true or false"
        case inspect.LiteralType():
            *others, last = map(str, kind.values)
            return f"{', '.join(others)} or {last}"
        case inspect.VarTupleType() | inspect.DictType():
            return "an object" if isinstance(kind, inspect.DictType) else "a list of texts"
        case _:
            return "a text"


def _describe_bounds(kind: inspect.IntType | inspect.FloatType) -> str:
    if kind.ge is not None:
        return f" from {kind.ge} to {kind.le}" if kind.le is not None else f" of at least {kind.ge}"
    if kind.gt is not None:
        above = f" above {kind.gt}"
        return f"{above} and up to {kind.le}" if kind.le is not None else above
    return ""


def _render_value(value: object) -> str:
    """Return a value for a message, short and without control characters."""
    if isinstance(value, str):
        is_short = len(value) <= MAX_QUOTED
        return repr(value) if is_short else f"a text of {len(value)} characters"
    if isinstance(value, int) and abs(value) >= _QUOTED_NUMBERS:
        return "a number of that size"
    if value is None or isinstance(value, int | float):
        return _JSON_WORDS.get(repr(value), repr(value))
    return next((name for kind, name in _TYPE_NAMES if isinstance(value, kind)), "that")


def _report_unknown(unknown: Sequence[str], known: Sequence[str], owner: str) -> Mistake:
    names = ", ".join(repr(name[:MAX_QUOTED_NAME]) for name in unknown)
    are = "is not a setting" if len(unknown) == 1 else "are not settings"
    of = f" of {owner}" if owner else ""
    return Mistake(names, f"{are}{of} ({', '.join(known)})")
