"""What stands still, for people who watch a screen: said when it begins, and when it is over.

Looking is a query; what of it is news is decided without one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import text

from worker.store.service import get_halt_reason, load_missing_connections

MAX_LISTED: Final = 5
"""Customers that are named one by one when they come to stand still, or go on, at once."""
HALT_RESOLVE_SECONDS: Final = 45.0
"""How long what is over must stay away: a halt lapses and is met again at the next attempt."""

_STUCK = text("""
    select c.id, coalesce(c.display_name, c.nango_connection_id) as name, c.status,
           c.status_reason, s.resource, s.phase, s.reason
      from sync.connections c
      left join sync.streams s on s.connection_id = c.id and s.phase in ('held', 'refused')
           and c.status = 'active'
     where c.status = 'broken' or s.resource is not null
        or c.status = 'retired' and c.retired_at >= :since
     order by c.id, s.resource
""")

AlarmKey = tuple[str, int]
"""What kind of thing stands still, and the connection that it is about; 0: all of them."""


@dataclass(frozen=True)
class ActiveAlarm:
    """One thing that stands still."""

    connection_name: str
    reason: str

    def render(self) -> str:
        return f"{self.connection_name}: {self.reason}" if self.connection_name else self.reason


@dataclass
class AlarmTracker:
    """Knows what was said."""

    announced: dict[AlarmKey, ActiveAlarm] = field(default_factory=dict)
    missing_since: dict[AlarmKey, float] = field(default_factory=dict)
    """Since when what was said is no longer found."""

    def render_changes(self, found: Mapping[AlarmKey, ActiveAlarm], now: float) -> Iterator[str]:
        """A line for what is new or has changed, and for what is over. Pure but for its memory."""
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
    """Those about everything, then each customer, or of many the first ones and a number."""
    for (_, connection), line in lines.items():
        if not connection:
            yield line
    each = [line for (_, connection), line in lines.items() if connection]
    yield from each[:MAX_LISTED]
    if len(each) > MAX_LISTED:
        yield f"and {len(each) - MAX_LISTED:,} more like these; 'tenant-mirror status' has them all"


def _render_resolved(key: AlarmKey, standing: ActiveAlarm) -> str:
    match key[0]:
        case "halt":
            return "no longer HALTED: all goes on"
        case "outage":
            return "Nango works again: all goes on"
        case "missing":
            return "no connections are missing from Nango's list any more"
        case _:
            return f"{standing.connection_name}: goes on"


def load_alarms(
    db: sa.Connection, since: datetime, outage: Mapping[str, Any] | None = None
) -> dict[AlarmKey, ActiveAlarm]:
    """All that stands still now; what was retired before ``since`` is no news."""
    found: dict[AlarmKey, ActiveAlarm] = {}
    if (reason := get_halt_reason(db)) is not None:
        found["halt", 0] = ActiveAlarm("", f"HALTED: {reason}; it is tried again every minute")
    if outage is not None:
        why = f"NANGO DOES NOT WORK: {outage['reason']}; it is asked every few seconds"
        found["outage", 0] = ActiveAlarm("", why)
    if (missing := load_missing_connections(db)) is not None:
        found["missing", 0] = ActiveAlarm("", f"HELD: {missing.reason}")
    for row in db.execute(_STUCK, {"since": since}).mappings():
        what, why = row["resource"], row["reason"] or row["phase"]
        if what is None:
            what, why = row["status"], row["status_reason"] or "no reason is known"
            found[what, row["id"]] = ActiveAlarm(row["name"], f"{what.upper()}: {why}")
        else:
            state = str(row["phase"]).upper()
            found[what, row["id"]] = ActiveAlarm(row["name"], f"{what} {state}: {why}")
    return found
