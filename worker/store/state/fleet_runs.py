"""The runs of the whole fleet: filtered lists, their counts, and who called Nango most."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import RowMapping, TextClause, text

from models.run import RunState, RunTrigger
from worker.store.first_id import render_first_id

MAX_COUNT: Final = 1000
"""Runs of one state up to which they are counted."""
TOP: Final = 10
"""Most connections in the list of those that called most."""


@dataclass(frozen=True)
class RunFilter:
    """Which runs are wanted; what is not given matches all."""

    state: RunState | None = None
    trigger: RunTrigger | None = None
    connection_ids: tuple[int, ...] | None = None
    since: datetime | None = None
    """Started at this time or later."""
    until: datetime | None = None
    """Started before this time."""


@dataclass(frozen=True)
class FleetRun:
    """A run in a list."""

    id: int
    connection_id: int
    trigger: RunTrigger
    state: RunState
    started_at: datetime
    finished_at: datetime | None
    slices: int
    calls: int
    pages: int
    objects: int
    created: int
    updated: int
    deleted: int
    restored: int
    rejected: int
    error: str | None


@dataclass(frozen=True)
class CallUse:
    """Calls of the runs of a connection, or of the runs that began within a minute."""

    connection_id: int | None
    minute: datetime | None
    calls: int
    runs: int


_COLUMNS: Final = ", ".join(FleetRun.__dataclass_fields__)

_USE: Final = text(f"""
    with recent as materialized (
        select connection_id, calls, date_trunc('minute', started_at) as minute from sync.runs
         where id >= {render_first_id("sync.runs", "started_at", "cast(:since as timestamptz)")}
           and started_at >= :since
         union all
        select connection_id, calls, null from sync.runs
         where state = 'running' and started_at < :since)
    (select connection_id, null::timestamptz as minute, sum(calls)::bigint as calls, count(*)
       from recent group by connection_id having sum(calls) > 0
      order by sum(calls) desc, connection_id limit {TOP})
     union all
    select null, minute, sum(calls)::bigint, count(*)
      from recent where minute is not null group by minute
""")


def list_fleet_runs(
    db: sa.Connection, wanted: RunFilter, *, before: int | None = None, limit: int = 50
) -> list[FleetRun]:
    """Return the newest runs of all connections that match; with ``before``, those before it."""
    found = db.execute(build_list(wanted, before), _list_values(wanted, before, limit))
    return [_build_run(row) for row in found.mappings()]


def count_fleet_runs(db: sa.Connection, wanted: RunFilter) -> dict[RunState, int]:
    """Return how many runs match in each state, whichever state is wanted.

    From ``MAX_COUNT`` on they are not counted further: the number is then one more than that.
    """
    found = db.execute(build_counts(wanted), _list_values(wanted, None, MAX_COUNT + 1))
    return {RunState(state): int(number) for state, number in found}


def load_call_use(db: sa.Connection, since: datetime) -> list[CallUse]:
    """Return the calls of the runs that began since a time, or go on.

    First come those of the connections that called most, then those of each minute.
    """
    return [CallUse(*row) for row in db.execute(_USE, {"since": since})]


def build_list(wanted: RunFilter, before: int | None) -> TextClause:
    """Return the statement of a list. States and triggers are literals, so that indexes fit."""
    conditions = _render_conditions(wanted, wanted.state)
    if before is not None:
        conditions = [*conditions, "id < :before"]
    return text(
        f"select {_COLUMNS} from sync.runs{_join(conditions)} order by id desc limit :limit"
    )


def build_counts(wanted: RunFilter) -> TextClause:
    parts = [
        f"select '{state.value}', count(*) from (select from sync.runs"
        f"{_join(_render_conditions(wanted, state))} limit :limit) found"
        for state in RunState
    ]
    return text(" union all ".join(parts))


def _render_conditions(wanted: RunFilter, state: RunState | None) -> list[str]:
    found = []
    if state is not None:
        found.append(f"state = '{RunState(state).value}'")
    if wanted.trigger is not None:
        found.append(f"trigger = '{RunTrigger(wanted.trigger).value}'")
    if wanted.connection_ids is not None:
        found.append("connection_id = any(cast(:ids as bigint[]))")
    if wanted.since is not None:
        moment = "cast(:since as timestamptz)"
        found.append(f"id >= {render_first_id('sync.runs', 'started_at', moment)}")
    if wanted.until is not None:
        moment = "cast(:until as timestamptz)"
        found.append(f"id < {render_first_id('sync.runs', 'started_at', moment)}")
    return found


def _join(conditions: Sequence[str]) -> str:
    return f" where {' and '.join(conditions)}" if conditions else ""


def _list_values(wanted: RunFilter, before: int | None, limit: int) -> dict[str, Any]:
    """Return the values of the parameters that the statement has."""
    values = {
        "before": before,
        "ids": None if wanted.connection_ids is None else list(wanted.connection_ids),
        "since": wanted.since,
        "until": wanted.until,
    }
    given: dict[str, Any] = {name: one for name, one in values.items() if one is not None}
    return {**given, "limit": limit}


def _build_run(row: RowMapping) -> FleetRun:
    values: dict[str, Any] = {name: row[name] for name in FleetRun.__dataclass_fields__}
    values["trigger"], values["state"] = RunTrigger(row["trigger"]), RunState(row["state"])
    return FleetRun(**values)
