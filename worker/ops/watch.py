"""What a person sees while everything runs: progress, a summary, then the changes."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from models.base import DIRECTORY
from models.resources import RESOURCES
from worker.events.naming import called, names_of
from worker.events.reading import events_after
from worker.ops.spelling import event_line
from worker.store.engine import Database
from worker.store.sinks import Position, Told

_STATE = text("""
    select c.id, coalesce(c.display_name, c.nango_connection_id) as name, c.status,
           c.status_reason,
           (select jsonb_object_agg(resource, jsonb_build_array(phase, seen_count))
              from sync.streams s where s.connection_id = c.id) as streams,
           (select count(*) from sync.runs r where r.connection_id = c.id
               and r.finished_at >= :since) as finished
      from sync.connections c
     where c.status in ('active', 'broken') order by c.id
""")
_RUNS = text("""
    select connection_id, sum(calls) as calls, sum(objects) as objects,
           extract(epoch from max(coalesce(finished_at, now())) - min(started_at)) as seconds,
           (array_agg(state order by id desc))[1] as state
      from sync.runs r where started_at >= :since and id <= (
           select min(ended.id) from sync.runs ended
            where ended.connection_id = r.connection_id and ended.finished_at >= :since)
     group by connection_id
""")
"""Up to the first run that ended: while a large customer is mirrored, small ones are due again."""

_POSITIONS = text("""
    select l.connection_id, l.event_seq, coalesce(c.display_name, c.nango_connection_id)
      from sync.leases l join sync.connections c on c.id = l.connection_id
     order by l.connection_id
""")


@dataclass
class Watcher:
    """Follows a database and says what happens."""

    database: Database
    say: Callable[[str], None]
    since: datetime
    stopped: Callable[[], bool]
    positions: dict[int, int] = field(default_factory=dict)

    def until_mirrored(self) -> list[dict[str, Any]]:
        """Progress until every connection has ended a run since we began; their states."""
        told: dict[int, tuple[Any, ...]] = {}
        last = 0.0
        while not self.stopped():
            with self.database.begin() as connection:
                found = connection.execute(_STATE, {"since": self.since}).mappings()
                states = [dict(row) for row in found]
            if states and all(row["finished"] for row in states):
                return states
            if time.monotonic() - last >= 2:
                last = time.monotonic()
                for row in states:
                    self._progress(row, told)
            time.sleep(0.25)
        return []

    def _progress(self, row: dict[str, Any], told: dict[int, tuple[Any, ...]]) -> None:
        parts = []
        for resource, (phase, seen) in (row["streams"] or {}).items():
            if phase == "listing" and seen:
                parts.append(f"{resource} {seen:,}")
            elif phase == "sweeping":
                parts.append(f"{resource} sweeping")
        if row["finished"]:
            parts = ["mirrored"]
        if parts and told.get(row["id"]) != tuple(parts):
            told[row["id"]] = tuple(parts)
            self.say(f"{row['name']}: {', '.join(sorted(parts))}")

    def summary(self, states: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[object]]]:
        """Columns and rows of the table of what was mirrored: a column a customer."""
        with self.database.begin() as connection:
            runs = {
                row["connection_id"]: row
                for row in connection.execute(_RUNS, {"since": self.since}).mappings()
            }
            rows: list[list[object]] = [
                [name.replace("_", " "), *(self._live(connection, name, s["id"]) for s in states)]
                for name in RESOURCES
            ]
        told = [runs.get(state["id"]) for state in states]
        rows.append(["seconds", *(f"{float(r['seconds']):.1f}" if r else "-" for r in told)])
        rows.append(["objects a second", *(_rate(r) for r in told)])
        rows.append(["Nango calls", *(int(r["calls"]) if r else 0 for r in told)])
        states_told = zip(states, told, strict=True)
        rows.append(["state", *(r["state"] if r else s["status"] for s, r in states_told)])
        return ["", *(str(state["name"]) for state in states)], rows

    def _live(self, connection: Any, table: str, connection_id: int) -> int:
        statement = (
            f"select count(*) from {DIRECTORY}.{table}"
            " where connection_id = :id and deleted_at is null"
        )
        return int(connection.execute(text(statement), {"id": connection_id}).scalar_one())

    def start_following(self) -> None:
        """From now on, changes are news."""
        with self.database.begin() as connection:
            self.positions = {row[0]: row[1] for row in connection.execute(_POSITIONS)}

    def changes(self, *, names: bool, limit: int = 8) -> None:
        """Say what has changed since the last look; names of people only where asked."""
        with self.database.begin() as connection:
            for connection_id, seq, name in connection.execute(_POSITIONS).all():
                before = self.positions.get(connection_id, 0)
                if seq <= before:
                    continue
                self.positions[connection_id] = seq
                told = self._told(connection, connection_id, before, limit) if names else []
                for event, what in told:
                    when = f"{event.occurred_at:%H:%M:%S}"
                    about = (event.resource, event.change, what)
                    self.say(event_line(when, name, *about, changed=event.changed))
                if seq - before > len(told):
                    more = "more " if told else ""
                    self.say(f"{name}: {seq - before - len(told):,} {more}changes")

    def _told(
        self, connection: Connection, connection_id: int, before: int, limit: int
    ) -> list[tuple[Told, str]]:
        """The next events, and what their objects are called."""
        events = events_after(connection, Position(connection_id, before, None), limit)
        names = names_of(connection, connection_id, events)
        return [(event, called(event, names)) for event in events]


def _rate(run: Any) -> str:
    seconds = float(run["seconds"]) if run else 0.0
    return f"{int(run['objects']) / seconds:,.0f}" if seconds else "-"
