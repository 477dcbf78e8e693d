"""Renders freshness for people, and that no worker consumes a queue."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from models.resources import RESOURCES
from worker.core.time_text import render_age


def render_freshness(freshness: Mapping[str, Mapping[str, Any]]) -> str:
    """Return each resource's age, equal ones together: "users, groups 4 s; sites 25 h LATE"."""
    shown = [
        (name, _render_freshness_age(freshness[name])) for name in RESOURCES if name in freshness
    ]
    parts = [
        f"{', '.join(name for name, _ in same)} {shown_age}"
        for shown_age, same in groupby(shown, key=lambda one: one[1])
    ]
    return "; ".join(parts)


def _render_freshness_age(fresh: Mapping[str, Any]) -> str:
    age = None if fresh["age_seconds"] is None else render_age(fresh["age_seconds"])
    if not fresh["is_on"]:
        return "off"
    if not fresh["is_licensed"]:
        return "not licensed" if age is None else f"{age}, not licensed"
    if age is None:
        return "never read, LATE" if fresh["is_late"] else "never read"
    return f"{age}{' LATE' if fresh['is_late'] else ''}"


def explain_no_worker(queues: Sequence[str]) -> str:
    """Return that no worker consumes these queues, and what to do."""
    return (
        f"no worker consumes {', '.join(queues)}: start one as in the Procfile, "
        "or check why it is silent"
    )
