"""What people see while everything runs: progress, a summary, then changes and alarms."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from models.resources import RESOURCES
from worker.core.printable import to_one_line
from worker.events.event import Event, Position
from worker.events.object_names import describe_object, load_object_names
from worker.events.read import read_events_after
from worker.ops.event_line import render_event_line
from worker.ops.local.alarms import AlarmTracker
from worker.overview.fleet import Fleet
from worker.store.engine import Database
from worker.store.state.watch import (
    count_live_rows,
    load_due_ids,
    load_first_load_progress,
    load_last_events,
    load_run_totals,
)

MAX_SHOWN_CUSTOMERS: Final = 5
"""Customers that are shown one by one; with more, sums and problems are shown."""
MAX_NAMED_CUSTOMERS: Final = 3
"""Customers that are named if many have changed."""
PROGRESS_SECONDS: Final = 2.0
LOOK_SHARE: Final = 20
"""A look at the fleet takes at most one part in so many of the time."""
DUE_SOON_SECONDS: Final = 20
"""Streams due within so many seconds are waited for at the start."""

ConnectionState = Mapping[str, Any]


@dataclass(frozen=True)
class MirrorSummary:
    """The table of mirrored objects."""

    columns: list[str]
    rows: list[list[object]]


@dataclass
class Watcher:
    """Follows a database and prints what happens."""

    database: Database
    echo: Callable[[str], None]
    since: datetime
    is_stopped: Callable[[], bool]
    load_fleet: Callable[[], Fleet]
    positions: dict[int, int] = field(default_factory=dict)
    alarms: AlarmTracker = field(default_factory=AlarmTracker)
    due_ids: frozenset[int] = frozenset()
    """Connections that were due when the service was started."""
    next_look: float = 0.0
    """When the fleet may be looked at again."""
    problem: str | None = None
    """Why the last look could read nothing; None if it could."""

    def record_due(self) -> None:
        """Call before the service starts, as claimed streams are no longer due, but not done."""
        with self.database.open_transaction() as db:
            self.due_ids = load_due_ids(db, DUE_SOON_SECONDS)

    def wait_until_mirrored(self) -> list[ConnectionState]:
        """Print progress until each due connection has finished a run; return all states."""
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
        """Whether a connection need not be waited for, which includes pauses of hours."""
        return bool(row["finished"]) or not (row["is_first"] or row["id"] in self.due_ids)

    def _load_states(self) -> list[ConnectionState]:
        with self.database.open_transaction() as db:
            return load_first_load_progress(db, self.since)

    def _print_progress(
        self, states: Sequence[ConnectionState], told: dict[int, tuple[Any, ...]]
    ) -> None:
        """Print news of each customer, or of many in one line (kept under the id 0)."""
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
        """Return what was mirrored: a column a customer, or sums if there are many."""
        ids = [state["id"] for state in states]
        with self.database.open_transaction() as db:
            runs = load_run_totals(db, self.since)
            live = {name: count_live_rows(db, name, ids) for name in RESOURCES}
        return (
            _build_summary_by_customer
            if len(states) <= MAX_SHOWN_CUSTOMERS
            else _build_summary_of_all
        )(states, runs, live)

    def start_following(self) -> None:
        """Begin to report changes from now on."""
        with self.database.open_transaction() as db:
            self.positions = {row[0]: row[1] for row in load_last_events(db)}

    def print_alarms(self) -> str | None:
        """Print the conditions that began since the last call, and those that are over.

        Return why nothing can be read from Postgres, if that is so: then nothing is over. A look at
        a large fleet takes long, so that some calls do not look.
        """
        now = time.monotonic()
        if now < self.next_look:
            return self.problem
        fleet = self.load_fleet()
        self.next_look = now + (time.monotonic() - now) * LOOK_SHARE
        self.problem = fleet.service.database_problem
        found = [*fleet.conditions, *(one for row in fleet.in_use for one in row.conditions)]
        for line in self.alarms.render_news(found, now):
            self.echo(to_one_line(line))
        if self.problem is None:
            for line in self.alarms.render_resolved(found, now):
                self.echo(to_one_line(line))
        return self.problem

    def print_changes(self, *, names: bool, limit: int = 8) -> None:
        """Print what has changed since the last call; names of people only if ``names``."""
        with self.database.open_transaction() as db:
            rows = load_last_events(db)
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
        """Return the next events with the names of their objects."""
        events = read_events_after(db, Position(connection_id, before, None), limit)
        names = load_object_names(db, connection_id, events)
        return [(event, describe_object(event, names)) for event in events]


def build_labels(states: Sequence[ConnectionState]) -> dict[int, str]:
    """Return the customers' names, with our id if two have the same."""
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
            parts.append(f"{resource} {seen:,} read")
        elif phase == "sweeping":
            parts.append(f"{resource} checked for deletions")
    return parts


def _render_total_progress(states: Sequence[ConnectionState], done: int) -> str:
    seen = sum(
        count
        for row in states
        if not row["finished"]
        for phase, count in (row["streams"] or {}).values()
        if phase == "listing"
    )
    under_way = f"; {seen:,} objects of the others read so far" if seen else ""
    return f"{done:,} of {len(states):,} customers are up to date{under_way}"


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
    """Return the state of the run since the start; of a customer that was not due, its status."""
    if run is not None:
        return str(run["state"])
    return "not due yet" if state["status"] == "active" else str(state["status"])


def _render_changes_of_many(moved: Sequence[tuple[str, int]]) -> str:
    """Return one line for all, with those that changed most."""
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
