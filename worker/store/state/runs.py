"""The history of runs. A run spans one or more slices."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Double, cast, func, select, text, update

from models.counter import RUN_SECONDS_BOUNDS, CounterName
from models.run import RunState, RunTrigger, runs
from worker.core.errors import NotFound
from worker.store.engine import Database
from worker.store.lease import Transaction


@dataclass
class Tally:
    """Counts of what a run did."""

    pages: int = 0
    objects: int = 0
    created: int = 0
    updated: int = 0
    deleted: int = 0
    restored: int = 0
    rejected: int = 0
    by_resource: dict[str, dict[str, int]] = field(default_factory=dict)
    walked: list[str] = field(default_factory=list)
    """Streams whose full walk is complete."""


PURGE_BATCH = 5000
_RUNS = text("""
    delete from sync.runs where id in (
        select id from sync.runs
         where finished_at < now() - make_interval(days => :days)
            or (finished_at < now() - make_interval(days => :quiet) and state = 'succeeded'
                and created + updated + deleted + restored = 0)
         limit :batch)
""")
RUN_DAYS = 90
UNCHANGED_RUN_DAYS = 7


def purge_runs(database: Database) -> int:
    """Delete old finished runs, those without changes sooner, and return how many."""
    purged = 0
    while True:
        with database.open_transaction() as db:
            gone = db.execute(
                _RUNS, {"days": RUN_DAYS, "quiet": UNCHANGED_RUN_DAYS, "batch": PURGE_BATCH}
            ).rowcount
        purged += gone
        if gone < PURGE_BATCH:
            return purged


_RESUME_OR_OPEN = text("""
    with resumed as (
        update sync.runs set slices = slices + 1
         where connection_id = :id and state = 'running' returning id, trigger, started_at),
    opened as (
        insert into sync.runs (connection_id, trigger, slices)
        select :id, :trigger, 1 where not exists (select from resumed)
     returning id, trigger, started_at)
    select *, true as adopted from resumed union all select *, false from opened
""")
_NOTE_WALK = text("""
    update sync.runs
       set resources = coalesce(resources, '{}'::jsonb)
                       || jsonb_build_object(cast(:name as text), true)
     where id = :id
""")
_END_RUNNING = text("""
    with running as (
        select id, resources from sync.runs where connection_id = :id and state = 'running')
    update sync.runs r
       set state = :state, finished_at = now(), error = :error, resources = null
      from running where r.id = running.id
 returning r.id, running.resources as walks, r.trigger,
           extract(epoch from r.finished_at - r.started_at)::float8 as seconds
""")
_FAILURES_IN_A_ROW = text("""
    select count(*) filter (where all_failed)
      from (select bool_and(state = 'failed') over (order by id desc) as all_failed
              from (select id, state from sync.runs
                     where connection_id = :id and state <> 'running'
                     order by id desc limit :limit) newest) newest
""")

_ENDED = (
    runs.c.trigger,
    cast(func.extract("epoch", runs.c.finished_at - runs.c.started_at), Double).label("seconds"),
)


@dataclass(frozen=True)
class Run:
    """An unfinished run."""

    id: int
    trigger: RunTrigger
    started_at: datetime
    is_resumed: bool = False
    """Whether an earlier slice opened it."""


def resume_or_open(tx: Transaction, trigger: RunTrigger) -> Run:
    """Resume the connection's unfinished run, or open a new one."""
    values = {"id": tx.connection_id, "trigger": trigger.value}
    row = tx.db.execute(_RESUME_OR_OPEN, values).one()
    return Run(row.id, RunTrigger(row.trigger), row.started_at, row.adopted)


def add_to_run(tx: Transaction, run: Run, tally: Tally, calls: int) -> list[str]:
    """Add a slice's counts, and return the resources fully walked since the run began."""
    walks = tx.db.execute(
        update(runs)
        .where(runs.c.id == run.id)
        .values(
            calls=runs.c.calls + calls,
            pages=runs.c.pages + tally.pages,
            objects=runs.c.objects + tally.objects,
            created=runs.c.created + tally.created,
            updated=runs.c.updated + tally.updated,
            deleted=runs.c.deleted + tally.deleted,
            restored=runs.c.restored + tally.restored,
            rejected=runs.c.rejected + tally.rejected,
        )
        .returning(runs.c.resources)
    ).scalar()
    return sorted(walks or {})


def note_full_walks(tx: Transaction, run: Run, names: list[str]) -> None:
    """Record that these resources were fully walked, for the slice that finishes the run."""
    for name in names:
        tx.db.execute(_NOTE_WALK, {"id": run.id, "name": name})


def finish_run(
    tx: Transaction,
    run: Run,
    state: RunState,
    *,
    error: str | None = None,
    resources: dict[str, Any] | None = None,
) -> None:
    """End the run, and count it by state and duration."""
    ended = tx.db.execute(
        update(runs)
        .where(runs.c.id == run.id)
        .values(state=state.value, finished_at=func.now(), error=error, resources=resources)
        .returning(*_ENDED)
    ).one_or_none()
    if ended is not None:
        _count_run(tx, state, ended.trigger, ended.seconds)


def end_running_run(tx: Transaction, state: RunState, error: str) -> tuple[int, list[str]] | None:
    """End the unfinished run from outside a slice; return its id and fully walked resources."""
    values = {"id": tx.connection_id, "state": state.value, "error": error}
    row = tx.db.execute(_END_RUNNING, values).one_or_none()
    if row is None:
        return None
    _count_run(tx, state, row.trigger, row.seconds)
    return row.id, sorted(row.walks or {})


def _count_run(tx: Transaction, state: RunState, trigger: str, seconds: float) -> None:
    bound = next((str(one) for one in RUN_SECONDS_BOUNDS if seconds <= one), "+Inf")
    tx.counts.add(CounterName.RUNS, state, trigger)
    tx.counts.add(CounterName.RUN_SECONDS, trigger, bound)
    tx.counts.add(CounterName.RUN_SECONDS_SUM, trigger, value=seconds)


def count_consecutive_failures(tx: Transaction, limit: int) -> int:
    """Return how many of the newest finished runs failed in a row."""
    values = {"id": tx.connection_id, "limit": limit}
    return int(tx.db.execute(_FAILURES_IN_A_ROW, values).scalar_one())


def list_latest_runs(
    db: sa.Connection,
    connection_id: int,
    limit: int = 10,
    *,
    state: RunState | None = None,
    before: int | None = None,
) -> list[Any]:
    """Return the newest runs of a connection, newest first; with ``before``, those before it."""
    statement = (
        select(runs)
        .where(runs.c.connection_id == connection_id)
        .order_by(runs.c.id.desc())
        .limit(limit)
    )
    if state is not None:
        statement = statement.where(runs.c.state == state.value)
    if before is not None:
        statement = statement.where(runs.c.id < before)
    return list(db.execute(statement).mappings())


def get_run(db: sa.Connection, run_id: int) -> Any:
    """Return a run. Raises NotFound."""
    row = db.execute(select(runs).where(runs.c.id == run_id)).mappings().one_or_none()
    if row is None:
        raise NotFound(
            f"there is no run {run_id}; finished runs are kept for {RUN_DAYS} days, and those "
            f"without changes for {UNCHANGED_RUN_DAYS}"
        )
    return row


_CALLS = text("""
    select wanted.id, case when :full then max(r.calls) else (array_agg(r.calls))[1] end as calls
      from unnest(cast(:ids as bigint[])) as wanted(id)
     cross join lateral (
           select calls from sync.runs
            where connection_id = wanted.id and state <> 'running'
            order by id desc limit :newest) r
     group by wanted.id
""")
_PRICED_RUNS = 50


def estimate_calls(db: sa.Connection, ids: Sequence[int], *, full: bool) -> dict[int, int]:
    """Return the calls of the last run of connections, or with ``full`` of their largest one.

    Connections without a finished run are left out.
    """
    newest = _PRICED_RUNS if full else 1
    rows = db.execute(_CALLS, {"ids": list(ids), "full": full, "newest": newest})
    return {row.id: int(row.calls) for row in rows}
