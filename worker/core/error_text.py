"""Renders errors as text without personal data from the database.

The message of a database error quotes rows and parameters, and wrappers quote the message. Of such
errors only the class, the SQL state and names (schema, table, column, constraint, type) are shown.
They are recognized by the package of their class, so no driver is imported here.
"""

import re
import traceback
from collections.abc import Iterator
from typing import Any, Final

SAFE_MESSAGE_FLAG: Final = "names_only"
"""An attribute of database errors whose message ``summarize_database_error`` made."""

_DATABASE_PACKAGES: Final = ("psycopg", "sqlalchemy")
_DIAGNOSTIC_NAMES: Final = ("schema", "table", "column", "constraint", "datatype")
_QUOTED_DATA: Final = re.compile(
    # The message of an error, after its class at the start of a line or in brackets ...
    r"((?:^|\\n)(?:psycopg|sqlalchemy)[\w.]*: (?!SQL state |no SQL state)"
    r"|\((?:psycopg|sqlalchemy)[\w.]+\) (?!SQL state |no SQL state))[\s\S]*"
    # ... and the lines after the first one, with its message; "\\n" is in a quoted text.
    r"|(?:: [^\n]*?)?((?:^|\n|\\n)\s*(?:DETAIL|CONTEXT|HINT|QUERY|STATEMENT|LINE \d+): )[\s\S]*"
    r"|(\[(?:SQL|parameters): )[\s\S]*",
    re.MULTILINE,
)
_CAUSE: Final = "The above exception was the direct cause of the following exception:"
_CONTEXT: Final = "During handling of the above exception, another exception occurred:"


def is_database_error(fault: BaseException) -> bool:
    """Whether the message may quote rows: errors of the driver, and their wrappers."""
    kinds = type(fault).__mro__
    if not any(kind.__module__.partition(".")[0] in _DATABASE_PACKAGES for kind in kinds):
        return False
    return hasattr(fault, "diag") or hasattr(fault, "orig") or hasattr(fault, "statement")


def summarize_database_error(fault: BaseException) -> str:
    """Return the SQL state of a database error and the names that Postgres sends with it."""
    origin = _get_driver_error(fault)
    diag = getattr(origin, "diag", None)
    state = getattr(origin, "sqlstate", None)
    told = [f"SQL state {state}" if state else "no SQL state"]
    for name in _DIAGNOSTIC_NAMES:
        value = getattr(diag, f"{name}_name", None)
        if value:
            told.append(f"{name} {value}")
    return ", ".join(told)


def render_message(fault: BaseException) -> str:
    """Return the message; of database errors only the safe part."""
    if is_database_error(fault):
        origin = _get_driver_error(fault)
        return (
            str(origin)
            if getattr(origin, SAFE_MESSAGE_FLAG, False)
            else summarize_database_error(origin)
        )
    return str(_unwrap_billiard(fault))


def render_error(fault: BaseException) -> str:
    """Return class and message, as at the end of a traceback."""
    kind = type(_get_driver_error(_unwrap_billiard(fault)))
    name = kind.__qualname__
    if kind.__module__ not in ("builtins", "__main__"):
        name = f"{kind.__module__}.{name}"
    said = render_message(fault)
    return f"{name}: {said}" if said else name


def render_traceback(fault: BaseException, seen: frozenset[int] = frozenset()) -> str:
    """Return the traceback, with those of its causes and of the members of a group."""
    fault = _unwrap_billiard(fault)
    seen |= {id(fault)}
    parts = []
    before = fault.__cause__ or (None if fault.__suppress_context__ else fault.__context__)
    if before is not None and id(before) not in seen:
        link = _CAUSE if fault.__cause__ is not None else _CONTEXT
        parts += [render_traceback(before, seen), "", link, ""]
    if fault.__traceback__ is not None:
        frames = "".join(traceback.format_tb(fault.__traceback__)).rstrip("\n")
        parts += ["Traceback (most recent call last):", frames]
    parts.append(render_error(fault))
    if not is_database_error(fault):
        parts += getattr(fault, "__notes__", [])
    if isinstance(fault, BaseExceptionGroup):
        for number, one in enumerate(fault.exceptions, start=1):
            if id(one) not in seen:
                inner = render_traceback(one, seen).replace("\n", "\n  | ")
                parts.append(f"  +- {number} of {len(fault.exceptions)}\n  | {inner}")
    return "\n".join(map(str, parts))


def redact_database_text(text: str, fault: BaseException | None = None) -> str:
    """Remove the messages of database errors from a text: those of ``fault``, and lookalikes."""
    for one in _iterate_related_errors(fault) if fault is not None else ():
        if is_database_error(one) or isinstance(one, UnicodeError):
            for told in (repr(one), str(one)):
                if told:
                    text = text.replace(told, render_error(one))
    return _QUOTED_DATA.sub(lambda found: f"{found[1] or found[2] or found[3]}***", text)


def _iterate_related_errors(
    fault: BaseException | None, seen: set[int] | None = None
) -> Iterator[BaseException]:
    """Yield an error, its causes, the members of a group, and the errors that they wrap."""
    seen = set() if seen is None else seen
    if fault is None or id(fault) in seen:
        return
    seen.add(id(fault))
    yield fault
    inner: list[Any] = [fault.__cause__, fault.__context__, getattr(fault, "orig", None)]
    inner.append(_unwrap_billiard(fault))
    inner += fault.exceptions if isinstance(fault, BaseExceptionGroup) else ()
    for one in inner:
        if isinstance(one, BaseException):
            yield from _iterate_related_errors(one, seen)


def _get_driver_error(fault: BaseException) -> BaseException:
    """Return the driver's error inside a wrapper."""
    origin = getattr(fault, "orig", None) if is_database_error(fault) else None
    return origin if isinstance(origin, BaseException) else fault


def _unwrap_billiard(fault: BaseException) -> BaseException:
    """Return the task's error, which billiard wraps in its own."""
    inner = getattr(fault, "exc", None)
    is_wrapper = type(fault).__module__.startswith("billiard")
    return inner if is_wrapper and isinstance(inner, BaseException) else fault
