"""What stands still, for people who watch a screen: said when it begins, and when it is over.

Looking is a query; what of it is news is decided without one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, text

from worker.store.service import halt_reason, missing_connections

MANY: Final = 5
"""Customers that are named one by one when they come to stand still, or go on, at once."""
LINGER_SECONDS: Final = 45.0
"""How long what is over must stay away: a halt lapses and is met again at the next attempt."""

_STANDING = text("""
    select c.id, coalesce(c.display_name, c.nango_connection_id) as name, c.status,
           c.status_reason, s.resource, s.phase, s.reason
      from sync.connections c
      left join sync.streams s on s.connection_id = c.id and s.phase in ('held', 'refused')
           and c.status = 'active'
     where c.status = 'broken' or s.resource is not null
        or c.status = 'retired' and c.retired_at >= :since
     order by c.id, s.resource
""")

Alarm = tuple[str, int]
"""What kind of thing stands still, and the connection that it is about; 0: all of them."""


@dataclass(frozen=True)
class Standing:
    """One thing that stands still."""

    who: str
    why: str

    def line(self) -> str:
        return f"{self.who}: {self.why}" if self.who else self.why


@dataclass
class Alarms:
    """Knows what was said."""

    told: dict[Alarm, Standing] = field(default_factory=dict)
    gone: dict[Alarm, float] = field(default_factory=dict)
    """Since when what was said is no longer found."""

    def news(self, found: Mapping[Alarm, Standing], now: float) -> Iterator[str]:
        """A line for what is new or has changed, and for what is over. Pure but for its memory."""
        new = {key: one for key, one in found.items() if self.told.get(key) != one}
        self.told.update(new)
        over = [key for key in self.told if key not in found and self._is_over(key, now)]
        self.gone = {key: at for key, at in self.gone.items() if key not in found}
        yield from _lines({key: one.line() for key, one in new.items()})
        yield from _lines({key: _over(key, self.told.pop(key)) for key in over})
        for key in over:
            self.gone.pop(key, None)

    def _is_over(self, key: Alarm, now: float) -> bool:
        since = self.gone.setdefault(key, now)
        return now - since >= (LINGER_SECONDS if key[0] == "halt" else 0)


def _lines(lines: Mapping[Alarm, str]) -> Iterator[str]:
    """Those about everything, then each customer, or of many the first ones and a number."""
    for (_, connection), line in lines.items():
        if not connection:
            yield line
    each = [line for (_, connection), line in lines.items() if connection]
    yield from each[:MANY]
    if len(each) > MANY:
        yield f"and {len(each) - MANY:,} more like these; 'tenant-mirror status' has them all"


def _over(key: Alarm, standing: Standing) -> str:
    match key[0]:
        case "halt":
            return "no longer HALTED: all goes on"
        case "outage":
            return "Nango works again: all goes on"
        case "missing":
            return "no connections are missing from Nango's list any more"
        case _:
            return f"{standing.who}: goes on"


def alarms_of(
    connection: Connection, since: datetime, outage: Mapping[str, Any] | None = None
) -> dict[Alarm, Standing]:
    """All that stands still now; what was retired before ``since`` is no news."""
    found: dict[Alarm, Standing] = {}
    if (reason := halt_reason(connection)) is not None:
        found["halt", 0] = Standing("", f"HALTED: {reason}; it is tried again every minute")
    if outage is not None:
        why = f"NANGO DOES NOT WORK: {outage['reason']}; it is asked every few seconds"
        found["outage", 0] = Standing("", why)
    if (missing := missing_connections(connection)) is not None:
        found["missing", 0] = Standing("", f"HELD: {missing.reason}")
    for row in connection.execute(_STANDING, {"since": since}).mappings():
        what, why = row["resource"], row["reason"] or row["phase"]
        if what is None:
            what, why = row["status"], row["status_reason"] or "no reason is known"
            found[what, row["id"]] = Standing(row["name"], f"{what.upper()}: {why}")
        else:
            state = str(row["phase"]).upper()
            found[what, row["id"]] = Standing(row["name"], f"{what} {state}: {why}")
    return found
