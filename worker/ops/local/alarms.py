"""Alarms for people who watch a screen: printed when something stops, and when it is over.

The alarms are read by a query elsewhere; deciding what is new needs no database.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from worker.store.state.alarms import ActiveAlarm, AlarmKey

MAX_LISTED: Final = 5
"""Customers that are named one by one when several stop, or go on, at once."""
HALT_RESOLVE_SECONDS: Final = 45.0
"""Seconds without an alarm until it counts as over: a halt expires and recurs at the next try."""


@dataclass
class AlarmTracker:
    """Remembers the alarms that were printed."""

    announced: dict[AlarmKey, ActiveAlarm] = field(default_factory=dict)
    missing_since: dict[AlarmKey, float] = field(default_factory=dict)
    """Since when printed alarms are no longer found."""

    def render_changes(self, found: Mapping[AlarmKey, ActiveAlarm], now: float) -> Iterator[str]:
        """Yield a line for each new, changed or resolved alarm. Pure except for its state."""
        new = {key: one for key, one in found.items() if self.announced.get(key) != one}
        self.announced.update(new)
        over = [key for key in self.announced if key not in found and self._is_resolved(key, now)]
        self.missing_since = {key: at for key, at in self.missing_since.items() if key not in found}
        yield from _render_lines({key: one.render() for key, one in new.items()})
        yield from _render_lines(
            {key: _render_resolved(key, self.announced.pop(key)) for key in over}
        )
        for key in over:
            self.missing_since.pop(key, None)

    def _is_resolved(self, key: AlarmKey, now: float) -> bool:
        since = self.missing_since.setdefault(key, now)
        return now - since >= (HALT_RESOLVE_SECONDS if key[0] == "halt" else 0)


def _render_lines(lines: Mapping[AlarmKey, str]) -> Iterator[str]:
    """Yield the lines about all customers, then of the first ones, then a count of the others."""
    for (_, connection), line in lines.items():
        if not connection:
            yield line
    each = [line for (_, connection), line in lines.items() if connection]
    yield from each[:MAX_LISTED]
    if len(each) > MAX_LISTED:
        left = len(each) - MAX_LISTED
        yield f"and {left:,} more like these; 'tenant-mirror status' shows all of them"


def _render_resolved(key: AlarmKey, standing: ActiveAlarm) -> str:
    match key[0]:
        case "halt":
            return "no longer HALTED: syncs resume"
        case "outage":
            return "Nango works again: syncs resume"
        case "missing":
            return "no connections are missing from Nango's list any longer"
        case _:
            return f"{standing.connection_name}: works again"
