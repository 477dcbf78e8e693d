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


def is_database_error(error: BaseException) -> bool:
    """Whether the message may quote rows: errors of the driver, and their wrappers."""
    kinds = type(error).__mro__
    if not any(kind.__module__.partition(".")[0] in _DATABASE_PACKAGES for kind in kinds):
        return False
    return hasattr(error, "diag") or hasattr(error, "orig") or hasattr(error, "statement")


def summarize_database_error(error: BaseException) -> str:
    """Return the SQL state of a database error and the names that Postgres sends with it."""
    origin = _get_driver_error(error)
    diag = getattr(origin, "diag", None)
    state = getattr(origin, "sqlstate", None)
    parts = [f"SQL state {state}" if state else "no SQL state"]
    for name in _DIAGNOSTIC_NAMES:
        value = getattr(diag, f"{name}_name", None)
        if value:
            parts.append(f"{name} {value}")
    return ", ".join(parts)


def render_message(error: BaseException) -> str:
    """Return the message; of database errors only the safe part."""
    if is_database_error(error):
        origin = _get_driver_error(error)
        return (
            str(origin)
            if getattr(origin, SAFE_MESSAGE_FLAG, False)
            else summarize_database_error(origin)
        )
    return str(_unwrap_billiard(error))


def render_error(error: BaseException) -> str:
    """Return class and message, as at the end of a traceback."""
    kind = type(_get_driver_error(_unwrap_billiard(error)))
    name = kind.__qualname__
    if kind.__module__ not in ("builtins", "__main__"):
        name = f"{kind.__module__}.{name}"
    said = render_message(error)
    return f"{name}: {said}" if said else name


def render_traceback(error: BaseException, seen: frozenset[int] = frozenset()) -> str:
    """Return the traceback, with those of its causes and of the members of a group."""
    error = _unwrap_billiard(error)
    seen |= {id(error)}
    parts = []
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None and id(before) not in seen:
        link = _CAUSE if error.__cause__ is not None else _CONTEXT
        parts += [render_traceback(before, seen), "", link, ""]
    if error.__traceback__ is not None:
        frames = "".join(traceback.format_tb(error.__traceback__)).rstrip("\n")
        parts += ["Traceback (most recent call last):", frames]
    parts.append(render_error(error))
    if not is_database_error(error):
        parts += getattr(error, "__notes__", [])
    if isinstance(error, BaseExceptionGroup):
        for number, one in enumerate(error.exceptions, start=1):
            if id(one) not in seen:
                inner = render_traceback(one, seen).replace("\n", "\n  | ")
                parts.append(f"  +- {number} of {len(error.exceptions)}\n  | {inner}")
    return "\n".join(map(str, parts))


def redact_database_text(text: str, error: BaseException | None = None) -> str:
    """Remove the messages of database errors from a text: those of ``error``, and lookalikes."""
    for one in _iterate_related_errors(error) if error is not None else ():
        if is_database_error(one) or isinstance(one, UnicodeError):
            for message in (repr(one), str(one)):
                if message:
                    text = text.replace(message, render_error(one))
    return _QUOTED_DATA.sub(lambda found: f"{found[1] or found[2] or found[3]}***", text)


def _iterate_related_errors(
    error: BaseException | None, seen: set[int] | None = None
) -> Iterator[BaseException]:
    """Yield an error, its causes, the members of a group, and the errors that they wrap."""
    seen = set() if seen is None else seen
    if error is None or id(error) in seen:
        return
    seen.add(id(error))
    yield error
    inner: list[Any] = [error.__cause__, error.__context__, getattr(error, "orig", None)]
    inner.append(_unwrap_billiard(error))
    inner += error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    for one in inner:
        if isinstance(one, BaseException):
            yield from _iterate_related_errors(one, seen)


def _get_driver_error(error: BaseException) -> BaseException:
    """Return the driver's error inside a wrapper."""
    origin = getattr(error, "orig", None) if is_database_error(error) else None
    return origin if isinstance(origin, BaseException) else error


def _unwrap_billiard(error: BaseException) -> BaseException:
    """Return the task's error, which billiard wraps in its own."""
    inner = getattr(error, "exc", None)
    is_wrapper = type(error).__module__.startswith("billiard")
    return inner if is_wrapper and isinstance(inner, BaseException) else error
