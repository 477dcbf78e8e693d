"""The history of syncs. A run goes on over several slices until it ends."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, insert, select, text, update

from models.run import RunState, RunTrigger, runs
from worker.store.lease import Transaction
from worker.store.streams import Tally

_NOTE_WALK = text("""
    update sync.runs
       set resources = coalesce(resources, '{}'::jsonb)
                       || jsonb_build_object(cast(:name as text), true)
     where id = :id
""")


@dataclass(frozen=True)
class Run:
    """A run under way."""

    id: int
    trigger: RunTrigger
    started_at: datetime


def resume_or_open(tx: Transaction, trigger: RunTrigger) -> Run:
    """Adopt the run that is under way, else open one."""
    row = tx.connection.execute(
        update(runs)
        .where(runs.c.connection_id == tx.connection_id, runs.c.state == RunState.RUNNING)
        .values(slices=runs.c.slices + 1)
        .returning(runs.c.id, runs.c.trigger, runs.c.started_at)
    ).one_or_none()
    if row is None:
        row = tx.connection.execute(
            insert(runs)
            .values(connection_id=tx.connection_id, trigger=trigger.value, slices=1)
            .returning(runs.c.id, runs.c.trigger, runs.c.started_at)
        ).one()
    return Run(row.id, RunTrigger(row.trigger), row.started_at)


def add_to_run(tx: Transaction, run: Run, tally: Tally, calls: int) -> None:
    """Add what a slice did."""
    tx.connection.execute(
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
    )


def note_walk(tx: Transaction, run: Run, names: list[str]) -> None:
    """These resources have been read anew: known to the run's end, whoever comes to it."""
    for name in names:
        tx.connection.execute(_NOTE_WALK, {"id": run.id, "name": name})


def noted_walks(tx: Transaction, run: Run) -> list[str]:
    """The resources that have been read anew since the run began."""
    found = tx.connection.execute(select(runs.c.resources).where(runs.c.id == run.id)).scalar()
    return sorted(found or {})


def finish_run(
    tx: Transaction,
    run: Run,
    state: RunState,
    *,
    error: str | None = None,
    resources: dict[str, Any] | None = None,
) -> None:
    tx.connection.execute(
        update(runs)
        .where(runs.c.id == run.id)
        .values(state=state.value, finished_at=func.now(), error=error, resources=resources)
    )


def latest_runs(connection: Connection, connection_id: int, limit: int = 10) -> list[Any]:
    """The newest runs of a connection, newest first."""
    statement = (
        select(runs)
        .where(runs.c.connection_id == connection_id)
        .order_by(runs.c.id.desc())
        .limit(limit)
    )
    return list(connection.execute(statement).mappings())
