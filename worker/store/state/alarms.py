"""Conditions that need an operator: held, broken, refused and retired."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import text

from worker.store.service.facts import get_halt_reason, load_missing_connections

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
"""The kind of alarm and the connection id; 0 for an alarm about all connections."""


@dataclass(frozen=True)
class ActiveAlarm:
    """One condition that needs an operator."""

    connection_name: str
    reason: str

    def render(self) -> str:
        return f"{self.connection_name}: {self.reason}" if self.connection_name else self.reason


def load_alarms(
    db: sa.Connection, since: datetime, outage: Mapping[str, Any] | None = None
) -> dict[AlarmKey, ActiveAlarm]:
    """Return all current alarms, without connections that were retired before ``since``."""
    alarms: dict[AlarmKey, ActiveAlarm] = {}
    if (reason := get_halt_reason(db)) is not None:
        alarms["halt", 0] = ActiveAlarm("", f"HALTED: {reason}; it is retried every minute")
    if outage is not None:
        why = f"NANGO DOES NOT WORK: {outage['reason']}; it is checked every few seconds"
        alarms["outage", 0] = ActiveAlarm("", why)
    if (missing := load_missing_connections(db)) is not None:
        alarms["missing", 0] = ActiveAlarm("", f"HELD: {missing.reason}")
    for row in db.execute(_STUCK, {"since": since}).mappings():
        what, why = row["resource"], row["reason"] or row["phase"]
        if what is None:
            what, why = row["status"], row["status_reason"] or "no reason is stored"
            alarms[what, row["id"]] = ActiveAlarm(row["name"], f"{what.upper()}: {why}")
        else:
            state = str(row["phase"]).upper()
            alarms[what, row["id"]] = ActiveAlarm(row["name"], f"{what} {state}: {why}")
    return alarms
