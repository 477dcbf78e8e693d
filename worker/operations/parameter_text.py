"""Say in words what an action was asked with, as the audit stores it. Pure."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from worker.core.time_text import render_count

MAX_LISTED: Final = 5
"""Values of a list that are told; the others are counted."""

_FLAGS: Final = frozenset({"full", "even_if_paused", "finish"})
"""Parameters whose name says all."""


def describe_parameters(parameters: Mapping[str, Any]) -> str:
    """Return the parameters that were given, such as "until 2026-12-01 06:00 UTC, reason: moving".

    Defaults are left out, and so are digests: they serve programs, which have them in JSON.
    """
    return ", ".join(_describe_all(parameters))


def _describe_all(parameters: Mapping[str, Any]) -> Iterator[str]:
    for name, value in parameters.items():
        text = _DESCRIBERS[name](value) if name in _DESCRIBERS else _describe(name, value)
        if text:
            yield text


def _describe(name: str, value: Any) -> str:
    """Return a parameter with its name; empty if it was not given."""
    shown = name.replace("_", " ")
    if not value:
        return ""
    if name in _FLAGS:
        return shown
    if isinstance(value, Mapping):
        return describe_parameters(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"{shown}: {_join(value)}"
    return f"{shown}: {'yes' if value is True else value}"


def _describe_until(value: str | None) -> str:
    if not value:
        return ""
    return f"until {datetime.fromisoformat(value).astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _describe_seen(value: Mapping[str, Any]) -> str:
    counts = [f"{one['count']:,} {name.replace('_', ' ')}" for name, one in value.items()]
    return f"seen: {_join(counts)}" if counts else ""


def _describe_resources(value: Sequence[str]) -> str:
    return f"only {_join(value)}" if value else ""


def _describe_filter(given: Mapping[str, Any]) -> str:
    """Return which connections were meant."""
    parts = [f"condition {one}" for one in given.get("conditions") or ()]
    parts += [f"status {one}" for one in given.get("statuses") or ()]
    if given.get("text"):
        parts.append(f"text '{given['text']}'")
    if given.get("attention"):
        parts.append("those that need attention")
    if given.get("ids"):
        parts.append(render_count(len(given["ids"]), "listed connection"))
    return f"filter: {', '.join(parts) or 'all'}"


def _join(values: Sequence[Any]) -> str:
    """Return the first values, and how many others there are."""
    rest = len(values) - MAX_LISTED
    return ", ".join(map(str, values[:MAX_LISTED])) + (f" and {rest:,} more" if rest > 0 else "")


_DESCRIBERS: Final[Mapping[str, Callable[[Any], str]]] = {
    "until": _describe_until,
    "expected": _describe_seen,
    "resources": _describe_resources,
    "filter": _describe_filter,
}
"""Parameters that are worded in a way of their own."""
