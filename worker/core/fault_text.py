"""Failures as text that may be shown: what a database says about rows stays out of it.

The message of a database error quotes rows and parameters, and a wrapper quotes the message. Of
such errors only the class, the SQL state and names (schema, table, column, constraint, type) are
shown. They are known by the packages that their classes come from, so nothing is loaded here.
"""

import re
import traceback
from collections.abc import Iterator
from typing import Any, Final

NAMES_ONLY: Final = "names_only"
"""An attribute of database errors whose message was made by ``facts``."""

_PACKAGES: Final = ("psycopg", "sqlalchemy")
_NAMES: Final = ("schema", "table", "column", "constraint", "datatype")
_QUOTED: Final = re.compile(
    # What an error says, behind its class at the beginning of a line or in brackets ...
    r"((?:^|\\n)(?:psycopg|sqlalchemy)[\w.]*: (?!SQL state |no SQL state)"
    r"|\((?:psycopg|sqlalchemy)[\w.]+\) (?!SQL state |no SQL state))[\s\S]*"
    # ... and the lines behind the first, with what that one says; "\\n" is of a quoted text.
    r"|(?:: [^\n]*?)?((?:^|\n|\\n)\s*(?:DETAIL|CONTEXT|HINT|QUERY|STATEMENT|LINE \d+): )[\s\S]*"
    r"|(\[(?:SQL|parameters): )[\s\S]*",
    re.MULTILINE,
)
_CAUSE: Final = "The above exception was the direct cause of the following exception:"
_CONTEXT: Final = "During handling of the above exception, another exception occurred:"


def is_of_database(fault: BaseException) -> bool:
    """Whether the message may quote rows: errors of the driver, and those that wrap one."""
    kinds = type(fault).__mro__
    if not any(kind.__module__.partition(".")[0] in _PACKAGES for kind in kinds):
        return False
    return hasattr(fault, "diag") or hasattr(fault, "orig") or hasattr(fault, "statement")


def facts(fault: BaseException) -> str:
    """The SQL state of a database error, and the names that Postgres gives with it."""
    origin = _origin(fault)
    diag = getattr(origin, "diag", None)
    state = getattr(origin, "sqlstate", None)
    told = [f"SQL state {state}" if state else "no SQL state"]
    for name in _NAMES:
        value = getattr(diag, f"{name}_name", None)
        if value:
            told.append(f"{name} {value}")
    return ", ".join(told)


def message(fault: BaseException) -> str:
    """The message, or what may be told of it."""
    if is_of_database(fault):
        origin = _origin(fault)
        return str(origin) if getattr(origin, NAMES_ONLY, False) else facts(origin)
    return str(_unwrapped(fault))


def describe(fault: BaseException) -> str:
    """Class and message, as at the end of a traceback."""
    kind = type(_origin(_unwrapped(fault)))
    name = kind.__qualname__
    if kind.__module__ not in ("builtins", "__main__"):
        name = f"{kind.__module__}.{name}"
    said = message(fault)
    return f"{name}: {said}" if said else name


def render(fault: BaseException, seen: frozenset[int] = frozenset()) -> str:
    """The traceback, with those of the causes and of the members of a group."""
    fault = _unwrapped(fault)
    seen |= {id(fault)}
    parts = []
    before = fault.__cause__ or (None if fault.__suppress_context__ else fault.__context__)
    if before is not None and id(before) not in seen:
        link = _CAUSE if fault.__cause__ is not None else _CONTEXT
        parts += [render(before, seen), "", link, ""]
    if fault.__traceback__ is not None:
        frames = "".join(traceback.format_tb(fault.__traceback__)).rstrip("\n")
        parts += ["Traceback (most recent call last):", frames]
    parts.append(describe(fault))
    if not is_of_database(fault):
        parts += getattr(fault, "__notes__", [])
    if isinstance(fault, BaseExceptionGroup):
        for number, one in enumerate(fault.exceptions, start=1):
            if id(one) not in seen:
                inner = render(one, seen).replace("\n", "\n  | ")
                parts.append(f"  +- {number} of {len(fault.exceptions)}\n  | {inner}")
    return "\n".join(map(str, parts))


def cleaned(text: str, fault: BaseException | None = None) -> str:
    """A text without what database errors say: those of a failure, and what looks like one."""
    for one in _chain(fault) if fault is not None else ():
        if is_of_database(one) or isinstance(one, UnicodeError):
            for told in (repr(one), str(one)):
                if told:
                    text = text.replace(told, describe(one))
    return _QUOTED.sub(lambda found: f"{found[1] or found[2] or found[3]}***", text)


def _chain(fault: BaseException | None, seen: set[int] | None = None) -> Iterator[BaseException]:
    """A failure, those that led to it, those that it holds and what they wrap."""
    seen = set() if seen is None else seen
    if fault is None or id(fault) in seen:
        return
    seen.add(id(fault))
    yield fault
    inner: list[Any] = [fault.__cause__, fault.__context__, getattr(fault, "orig", None)]
    inner.append(_unwrapped(fault))
    inner += fault.exceptions if isinstance(fault, BaseExceptionGroup) else ()
    for one in inner:
        if isinstance(one, BaseException):
            yield from _chain(one, seen)


def _origin(fault: BaseException) -> BaseException:
    """The driver's error below that of a wrapper."""
    origin = getattr(fault, "orig", None) if is_of_database(fault) else None
    return origin if isinstance(origin, BaseException) else fault


def _unwrapped(fault: BaseException) -> BaseException:
    """The failure of a task, which billiard carries in one of its own."""
    inner = getattr(fault, "exc", None)
    is_wrapper = type(fault).__module__.startswith("billiard")
    return inner if is_wrapper and isinstance(inner, BaseException) else fault
