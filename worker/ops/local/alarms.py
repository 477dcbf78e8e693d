"""Alarms for people who watch a screen: printed when a condition begins, and when it is over.

The conditions are judged elsewhere, and say all of it themselves.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from worker.conditions.condition import Code, Condition

MAX_LISTED: Final = 5
"""Conditions of customers that are printed one by one when several begin, or end, at once."""
PATIENCE_SECONDS: Final[Mapping[Code, float]] = {
    Code.DISPATCHER_SILENT: 30.0,
    Code.WORKERS_SILENT: 30.0,
    Code.RELAY_MISSING: 30.0,
    Code.WAITING_FOR_BUDGET: 60.0,
    Code.LATE: 60.0,
    Code.NEVER_LOADED: 60.0,
}
"""How long a condition lasts before it is printed: a start, or work that goes on, may end it."""
RESOLVE_SECONDS: Final[Mapping[Code, float]] = {
    Code.HALTED: 45.0,
    Code.WAITING_FOR_BUDGET: 75.0,
}
"""Seconds without a condition until it counts as over, as it may recur within a minute."""


class AlarmKey(NamedTuple):
    """What a condition is about: its sentence may change with each look."""

    code: Code
    connection_id: int | None
    resource: str | None
    subject: str


@dataclass
class AlarmTracker:
    """Remembers the conditions that were found, and those that were printed."""

    announced: dict[AlarmKey, Condition] = field(default_factory=dict)
    """As they were printed."""
    found_since: dict[AlarmKey, float] = field(default_factory=dict)
    """Since when conditions that need attention are found without interruption."""
    missing_since: dict[AlarmKey, float] = field(default_factory=dict)
    """Since when printed conditions are no longer found."""

    def render_news(self, found: Iterable[Condition], now: float) -> Iterator[str]:
        """Yield lines for each condition that needs attention, is new or has become more severe."""
        keyed = {_get_key(one): one for one in found if one.severity.needs_attention}
        self.found_since = {key: self.found_since.get(key, now) for key in keyed}
        new = [one for key, one in keyed.items() if self._is_news(key, one, now)]
        self.announced.update((_get_key(one), one) for one in new)
        yield from _list_lines(new, _render_condition)

    def render_resolved(self, found: Iterable[Condition], now: float) -> Iterator[str]:
        """Yield a line for each printed condition that is over; ``found`` must be complete."""
        present = {_get_key(one) for one in found}
        gone = [key for key in self.announced if key not in present]
        self.missing_since = {key: self.missing_since.get(key, now) for key in gone}
        over = [
            key
            for key, since in self.missing_since.items()
            if now - since >= RESOLVE_SECONDS.get(key.code, 0.0)
        ]
        for key in over:
            del self.missing_since[key]
        yield from _list_lines([self.announced.pop(key) for key in over], _render_end)

    def _is_news(self, key: AlarmKey, found: Condition, now: float) -> bool:
        known = self.announced.get(key)
        if known is not None:
            return found.severity.rank > known.severity.rank
        return now - self.found_since[key] >= PATIENCE_SECONDS.get(key.code, 0.0)


def _get_key(condition: Condition) -> AlarmKey:
    return AlarmKey(condition.code, condition.connection_id, condition.resource, condition.subject)


def _list_lines(
    conditions: Sequence[Condition], render: Callable[[Condition], Iterator[str]]
) -> Iterator[str]:
    """Yield the lines of the service, then of the first customers, then a count of the others."""
    ordered = sorted(conditions, key=lambda one: -one.severity.rank)
    of_customers = [one for one in ordered if one.connection_id is not None]
    of_service = [one for one in ordered if one.connection_id is None]
    for one in (*of_service, *of_customers[:MAX_LISTED]):
        yield from render(one)
    left = len(of_customers) - MAX_LISTED
    if left > 0:
        yield f"and {left:,} more like these; 'tenant-mirror status' shows all that are left"


def _render_condition(condition: Condition) -> Iterator[str]:
    """Yield the facts and what to do."""
    severity = condition.severity.upper()
    yield f"{severity} {condition.code}: {_name(condition)} {condition.sentence}"
    yield f"    do: {condition.remedy}"


def _render_end(condition: Condition) -> Iterator[str]:
    about = f", {condition.resource}" if condition.resource else ""
    yield f"OVER {condition.code}: {_name(condition)}{about}"


def _name(condition: Condition) -> str:
    """Return the subject, with the id of a customer: two may have the same name."""
    number = condition.connection_id
    return condition.subject if number is None else f"{condition.subject} ({number})"
