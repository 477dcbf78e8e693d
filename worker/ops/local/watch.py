"""What a person sees while everything runs: progress, a summary, then changes and troubles."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import text

from models.base import DIRECTORY
from models.resources import RESOURCES
from worker.events.event import Event, Position
from worker.events.object_names import describe_object, load_object_names
from worker.events.read import read_events_after
from worker.ops.event_line import render_event_line, to_one_line
from worker.ops.local.alarms import AlarmTracker
from worker.store.engine import Database
from worker.store.state.alarms import load_alarms

MAX_SHOWN_CUSTOMERS: Final = 5
"""Customers that are shown one by one; of more, their sums are shown, and what is wrong."""
MAX_NAMED_CUSTOMERS: Final = 3
"""Customers that are named where many have changed."""
PROGRESS_SECONDS: Final = 2.0
DUE_SOON_SECONDS: Final = 20
"""What is due within that time is waited for at the start."""

_STATE = text("""
    select c.id, coalesce(c.display_name, c.nango_connection_id) as name, c.status,
           c.status_reason,
           (select jsonb_object_agg(resource, jsonb_build_array(phase, seen_count))
              from sync.streams s where s.connection_id = c.id) as streams,
           (select count(*) from sync.runs r where r.connection_id = c.id
               and r.finished_at >= :since) as finished,
           not exists (select from sync.runs r where r.connection_id = c.id
                          and r.finished_at is not null) as is_first
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

_DUE = text("""
    select c.id from sync.connections c
     where c.status in ('active', 'broken')
       and c.due_at <= clock_timestamp() + make_interval(secs => :soon)
""")

ConnectionState = Mapping[str, Any]


@dataclass(frozen=True)
class MirrorSummary:
    """The table of what was mirrored."""

    columns: list[str]
    rows: list[list[object]]


@dataclass
class Watcher:
    """Follows a database and says what happens."""

    database: Database
    echo: Callable[[str], None]
    since: datetime
    is_stopped: Callable[[], bool]
    load_outage: Callable[[], Mapping[str, Any] | None] = lambda: None
    """Since when Nango does not work for anybody, and why."""
    positions: dict[int, int] = field(default_factory=dict)
    alarms: AlarmTracker = field(default_factory=AlarmTracker)
    due_ids: frozenset[int] = frozenset()
    """What was due when the service was started."""

    def record_due(self) -> None:
        """Call before the service starts: what it claims is no longer due, and not yet done."""
        with self.database.open_transaction() as db:
            found = db.execute(_DUE, {"soon": DUE_SOON_SECONDS}).scalars()
            self.due_ids = frozenset(found)

    def wait_until_mirrored(self) -> list[ConnectionState]:
        """Progress until each connection that is due has ended a run since we began; all states."""
        told: dict[int, tuple[Any, ...]] = {}
        last = 0.0
        while not self.is_stopped():
            states = self._load_states()
            if states and all(self._is_done(row) for row in states):
                return states
            if time.monotonic() - last >= PROGRESS_SECONDS:
                last = time.monotonic()
                self.print_alarms()
                self._print_progress(states, told)
            time.sleep(0.25)
        return []

    def _is_done(self, row: ConnectionState) -> bool:
        """Whether nothing of it is to be waited for: a pause of hours is not."""
        return bool(row["finished"]) or not (row["is_first"] or row["id"] in self.due_ids)

    def _load_states(self) -> list[ConnectionState]:
        with self.database.open_transaction() as db:
            found = db.execute(_STATE, {"since": self.since}).mappings()
            return [dict(row) for row in found]

    def _print_progress(
        self, states: Sequence[ConnectionState], told: dict[int, tuple[Any, ...]]
    ) -> None:
        """Say what is new: for each customer, or for many in one line (told under 0)."""
        if len(states) > MAX_SHOWN_CUSTOMERS:
            line = _render_total_progress(states, sum(map(self._is_done, states)))
            if told.get(0) != (line,):
                told[0] = (line,)
                self.echo(line)
            return
        names = build_labels(states)
        for row in states:
            parts = _render_progress(row)
            if parts and told.get(row["id"]) != tuple(parts):
                told[row["id"]] = tuple(parts)
                self.echo(f"{names[row['id']]}: {', '.join(sorted(parts))}")

    def build_summary(self, states: Sequence[ConnectionState]) -> MirrorSummary:
        """What was mirrored: a column a customer, or their sums where they are many."""
        ids = [state["id"] for state in states]
        with self.database.open_transaction() as db:
            found = db.execute(_RUNS, {"since": self.since}).mappings()
            runs = {row["connection_id"]: dict(row) for row in found}
            live = {name: _count_live_rows(db, name, ids) for name in RESOURCES}
        return (
            _build_summary_by_customer
            if len(states) <= MAX_SHOWN_CUSTOMERS
            else _build_summary_of_all
        )(states, runs, live)

    def start_following(self) -> None:
        """From now on, changes are news."""
        with self.database.open_transaction() as db:
            self.positions = {row[0]: row[1] for row in db.execute(_POSITIONS)}

    def print_alarms(self) -> None:
        """Say what stands still since the last look, and what goes on again."""
        outage = self.load_outage()
        with self.database.open_transaction() as db:
            found = load_alarms(db, self.since, outage)
        for line in self.alarms.render_changes(found, time.monotonic()):
            self.echo(to_one_line(line))

    def print_changes(self, *, names: bool, limit: int = 8) -> None:
        """Say what has changed since the last look; names of people only where asked."""
        with self.database.open_transaction() as db:
            rows = [(*row,) for row in db.execute(_POSITIONS)]
            moved = [row for row in rows if row[1] > self.positions.get(row[0], 0)]
            before = {row[0]: self.positions.get(row[0], 0) for row in moved}
            self.positions |= {row[0]: row[1] for row in moved}
            if len(moved) > MAX_SHOWN_CUSTOMERS:
                self.echo(
                    _render_changes_of_many([(row[2], row[1] - before[row[0]]) for row in moved])
                )
                return
            for connection_id, seq, name in moved:
                first = before[connection_id]
                told = self._load_events(db, connection_id, first, limit) if names else []
                for event, what in told:
                    when = f"{event.occurred_at:%H:%M:%S}"
                    about = (event.resource, event.change, what)
                    self.echo(render_event_line(when, name, *about, changed=event.changed))
                if seq - first > len(told):
                    more = "more " if told else ""
                    self.echo(
                        to_one_line(f"{name}: {render_change_count(seq - first - len(told), more)}")
                    )

    def _load_events(
        self, db: sa.Connection, connection_id: int, before: int, limit: int
    ) -> list[tuple[Event, str]]:
        """The next events, and what their objects are called."""
        events = read_events_after(db, Position(connection_id, before, None), limit)
        names = load_object_names(db, connection_id, events)
        return [(event, describe_object(event, names)) for event in events]


def build_labels(states: Sequence[ConnectionState]) -> dict[int, str]:
    """The customers' names, with our id where two have the same."""
    number = Counter(state["name"] for state in states)
    return {
        state["id"]: to_one_line(
            state["name"] if number[state["name"]] == 1 else f"{state['name']} ({state['id']})"
        )
        for state in states
    }


def _render_progress(row: ConnectionState) -> list[str]:
    if row["finished"]:
        return ["mirrored"]
    parts = []
    for resource, (phase, seen) in (row["streams"] or {}).items():
        if phase == "listing" and seen:
            parts.append(f"{resource} {seen:,}")
        elif phase == "sweeping":
            parts.append(f"{resource} sweeping")
    return parts


def _render_total_progress(states: Sequence[ConnectionState], done: int) -> str:
    seen = sum(
        count
        for row in states
        if not row["finished"]
        for phase, count in (row["streams"] or {}).values()
        if phase == "listing"
    )
    under_way = f"; {seen:,} objects of the others so far" if seen else ""
    return f"{done:,} of {len(states):,} customers are up to date{under_way}"


def _count_live_rows(db: sa.Connection, table: str, ids: list[int]) -> dict[int, int]:
    statement = text(
        f"select connection_id, count(*) from {DIRECTORY}.{table}"
        " where connection_id = any(:ids) and deleted_at is null group by connection_id"
    )
    return {row[0]: row[1] for row in db.execute(statement, {"ids": ids})}


def _build_summary_by_customer(
    states: Sequence[ConnectionState],
    runs: Mapping[int, ConnectionState],
    live: Mapping[str, Mapping[int, int]],
) -> MirrorSummary:
    told = [runs.get(state["id"]) for state in states]
    rows: list[list[object]] = [
        [name.replace("_", " "), *(counts.get(state["id"], 0) for state in states)]
        for name, counts in live.items()
    ]
    rows.append(["seconds", *(f"{float(r['seconds']):.1f}" if r else "-" for r in told)])
    rows.append(["objects a second", *(_render_rate(r) for r in told)])
    rows.append(["Nango calls", *(int(r["calls"]) if r else 0 for r in told)])
    rows.append(["state", *map(_render_state, states, told)])
    names = build_labels(states)
    return MirrorSummary(["", *(names[state["id"]] for state in states)], rows)


def _build_summary_of_all(
    states: Sequence[ConnectionState],
    runs: Mapping[int, ConnectionState],
    live: Mapping[str, Mapping[int, int]],
) -> MirrorSummary:
    rows: list[list[object]] = [
        [name.replace("_", " "), sum(counts.values())] for name, counts in live.items()
    ]
    rows.append(["Nango calls", sum(int(run["calls"]) for run in runs.values())])
    ended = Counter(_render_state(state, runs.get(state["id"])) for state in states)
    rows += [[f"customers {state}", number] for state, number in sorted(ended.items())]
    return MirrorSummary(["", f"{len(states):,} customers"], rows)


def _render_state(state: ConnectionState, run: ConnectionState | None) -> str:
    """Of the run since we began; of one that was not due, how it stands."""
    if run is not None:
        return str(run["state"])
    return "not due yet" if state["status"] == "active" else str(state["status"])


def _render_changes_of_many(moved: Sequence[tuple[str, int]]) -> str:
    """One line for all, with those that changed most."""
    most = sorted(moved, key=lambda one: -one[1])[:MAX_NAMED_CUSTOMERS]
    first = ", ".join(f"{name} {number:,}" for name, number in most)
    total = render_change_count(sum(number for _, number in moved))
    return to_one_line(
        f"{total} of {len(moved):,} customers: {first}, {len(moved) - MAX_NAMED_CUSTOMERS:,} more"
    )


def render_change_count(number: int, more: str = "") -> str:
    return f"{number:,} {more}change{'' if number == 1 else 's'}"


def _render_rate(run: Any) -> str:
    seconds = float(run["seconds"]) if run else 0.0
    return f"{int(run['objects']) / seconds:,.0f}" if seconds else "-"
