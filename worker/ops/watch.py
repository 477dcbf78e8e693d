"""What a person sees while everything runs: progress, a summary, then changes and troubles."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, text

from models.base import DIRECTORY
from models.resources import RESOURCES
from worker.events.naming import called, names_of
from worker.events.reading import events_after
from worker.ops.alarms import Alarms, alarms_of
from worker.ops.spelling import event_line, one_line
from worker.store.engine import Database
from worker.store.sinks import Position, Told

FEW: Final = 5
"""Customers that are shown one by one; of more, their sums are shown, and what is wrong."""
NAMED: Final = 3
"""Customers that are named where many have changed."""
PROGRESS_SECONDS: Final = 2.0
SOON_SECONDS: Final = 20
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

State = Mapping[str, Any]


@dataclass(frozen=True)
class Summary:
    """The table of what was mirrored."""

    columns: list[str]
    rows: list[list[object]]


@dataclass
class Watcher:
    """Follows a database and says what happens."""

    database: Database
    say: Callable[[str], None]
    since: datetime
    stopped: Callable[[], bool]
    outage: Callable[[], Mapping[str, Any] | None] = lambda: None
    """Since when Nango does not work for anybody, and why."""
    positions: dict[int, int] = field(default_factory=dict)
    alarms: Alarms = field(default_factory=Alarms)
    due: frozenset[int] = frozenset()
    """What was due when the service was started."""

    def note_due(self) -> None:
        """Call before the service starts: what it claims is no longer due, and not yet done."""
        with self.database.begin() as connection:
            found = connection.execute(_DUE, {"soon": SOON_SECONDS}).scalars()
            self.due = frozenset(found)

    def until_mirrored(self) -> list[State]:
        """Progress until each connection that is due has ended a run since we began; all states."""
        told: dict[int, tuple[Any, ...]] = {}
        last = 0.0
        while not self.stopped():
            states = self._states()
            if states and all(self._is_done(row) for row in states):
                return states
            if time.monotonic() - last >= PROGRESS_SECONDS:
                last = time.monotonic()
                self.tell_alarms()
                self._tell_progress(states, told)
            time.sleep(0.25)
        return []

    def _is_done(self, row: State) -> bool:
        """Whether nothing of it is to be waited for: a pause of hours is not."""
        return bool(row["finished"]) or not (row["is_first"] or row["id"] in self.due)

    def _states(self) -> list[State]:
        with self.database.begin() as connection:
            found = connection.execute(_STATE, {"since": self.since}).mappings()
            return [dict(row) for row in found]

    def _tell_progress(self, states: Sequence[State], told: dict[int, tuple[Any, ...]]) -> None:
        """Say what is new: for each customer, or for many in one line (told under 0)."""
        if len(states) > FEW:
            line = _progress_of_many(states, sum(map(self._is_done, states)))
            if told.get(0) != (line,):
                told[0] = (line,)
                self.say(line)
            return
        names = labels(states)
        for row in states:
            parts = _progress_of(row)
            if parts and told.get(row["id"]) != tuple(parts):
                told[row["id"]] = tuple(parts)
                self.say(f"{names[row['id']]}: {', '.join(sorted(parts))}")

    def summary(self, states: Sequence[State]) -> Summary:
        """What was mirrored: a column a customer, or their sums where they are many."""
        ids = [state["id"] for state in states]
        with self.database.begin() as connection:
            found = connection.execute(_RUNS, {"since": self.since}).mappings()
            runs = {row["connection_id"]: dict(row) for row in found}
            live = {name: _live(connection, name, ids) for name in RESOURCES}
        return (_of_each if len(states) <= FEW else _of_all)(states, runs, live)

    def start_following(self) -> None:
        """From now on, changes are news."""
        with self.database.begin() as connection:
            self.positions = {row[0]: row[1] for row in connection.execute(_POSITIONS)}

    def tell_alarms(self) -> None:
        """Say what stands still since the last look, and what goes on again."""
        outage = self.outage()
        with self.database.begin() as connection:
            found = alarms_of(connection, self.since, outage)
        for line in self.alarms.news(found, time.monotonic()):
            self.say(one_line(line))

    def changes(self, *, names: bool, limit: int = 8) -> None:
        """Say what has changed since the last look; names of people only where asked."""
        with self.database.begin() as connection:
            rows = [(*row,) for row in connection.execute(_POSITIONS)]
            moved = [row for row in rows if row[1] > self.positions.get(row[0], 0)]
            before = {row[0]: self.positions.get(row[0], 0) for row in moved}
            self.positions |= {row[0]: row[1] for row in moved}
            if len(moved) > FEW:
                self.say(_changes_of_many([(row[2], row[1] - before[row[0]]) for row in moved]))
                return
            for connection_id, seq, name in moved:
                first = before[connection_id]
                told = self._told(connection, connection_id, first, limit) if names else []
                for event, what in told:
                    when = f"{event.occurred_at:%H:%M:%S}"
                    about = (event.resource, event.change, what)
                    self.say(event_line(when, name, *about, changed=event.changed))
                if seq - first > len(told):
                    more = "more " if told else ""
                    self.say(one_line(f"{name}: {counted(seq - first - len(told), more)}"))

    def _told(
        self, connection: Connection, connection_id: int, before: int, limit: int
    ) -> list[tuple[Told, str]]:
        """The next events, and what their objects are called."""
        events = events_after(connection, Position(connection_id, before, None), limit)
        names = names_of(connection, connection_id, events)
        return [(event, called(event, names)) for event in events]


def labels(states: Sequence[State]) -> dict[int, str]:
    """The customers' names, with our id where two have the same."""
    number = Counter(state["name"] for state in states)
    return {
        state["id"]: one_line(
            state["name"] if number[state["name"]] == 1 else f"{state['name']} ({state['id']})"
        )
        for state in states
    }


def _progress_of(row: State) -> list[str]:
    if row["finished"]:
        return ["mirrored"]
    parts = []
    for resource, (phase, seen) in (row["streams"] or {}).items():
        if phase == "listing" and seen:
            parts.append(f"{resource} {seen:,}")
        elif phase == "sweeping":
            parts.append(f"{resource} sweeping")
    return parts


def _progress_of_many(states: Sequence[State], done: int) -> str:
    seen = sum(
        count
        for row in states
        if not row["finished"]
        for phase, count in (row["streams"] or {}).values()
        if phase == "listing"
    )
    under_way = f"; {seen:,} objects of the others so far" if seen else ""
    return f"{done:,} of {len(states):,} customers are up to date{under_way}"


def _live(connection: Connection, table: str, ids: list[int]) -> dict[int, int]:
    statement = text(
        f"select connection_id, count(*) from {DIRECTORY}.{table}"
        " where connection_id = any(:ids) and deleted_at is null group by connection_id"
    )
    return {row[0]: row[1] for row in connection.execute(statement, {"ids": ids})}


def _of_each(
    states: Sequence[State], runs: Mapping[int, State], live: Mapping[str, Mapping[int, int]]
) -> Summary:
    told = [runs.get(state["id"]) for state in states]
    rows: list[list[object]] = [
        [name.replace("_", " "), *(counts.get(state["id"], 0) for state in states)]
        for name, counts in live.items()
    ]
    rows.append(["seconds", *(f"{float(r['seconds']):.1f}" if r else "-" for r in told)])
    rows.append(["objects a second", *(_rate(r) for r in told)])
    rows.append(["Nango calls", *(int(r["calls"]) if r else 0 for r in told)])
    rows.append(["state", *map(_state, states, told)])
    names = labels(states)
    return Summary(["", *(names[state["id"]] for state in states)], rows)


def _of_all(
    states: Sequence[State], runs: Mapping[int, State], live: Mapping[str, Mapping[int, int]]
) -> Summary:
    rows: list[list[object]] = [
        [name.replace("_", " "), sum(counts.values())] for name, counts in live.items()
    ]
    rows.append(["Nango calls", sum(int(run["calls"]) for run in runs.values())])
    ended = Counter(_state(state, runs.get(state["id"])) for state in states)
    rows += [[f"customers {state}", number] for state, number in sorted(ended.items())]
    return Summary(["", f"{len(states):,} customers"], rows)


def _state(state: State, run: State | None) -> str:
    """Of the run since we began; of one that was not due, how it stands."""
    if run is not None:
        return str(run["state"])
    return "not due yet" if state["status"] == "active" else str(state["status"])


def _changes_of_many(moved: Sequence[tuple[str, int]]) -> str:
    """One line for all, with those that changed most."""
    most = sorted(moved, key=lambda one: -one[1])[:NAMED]
    first = ", ".join(f"{name} {number:,}" for name, number in most)
    total = counted(sum(number for _, number in moved))
    return one_line(f"{total} of {len(moved):,} customers: {first}, {len(moved) - NAMED:,} more")


def counted(number: int, more: str = "") -> str:
    return f"{number:,} {more}change{'' if number == 1 else 's'}"


def _rate(run: Any) -> str:
    seconds = float(run["seconds"]) if run else 0.0
    return f"{int(run['objects']) / seconds:,.0f}" if seconds else "-"
