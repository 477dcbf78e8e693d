"""Maintenance: create partitions, purge expired deleted rows and events.

A tick dispatches it if the last one, by the database, ended an hour ago. Interrupted erasures, and
those that waited for a sink, continue. A failed chore is logged and does not affect the others; it
runs again an hour later.
"""

from collections.abc import Callable, Sequence
from typing import Any

from celery import shared_task

from models.sink import SinkStatus
from worker.core.log import get_logger
from worker.delivery.store.retention import RetentionDecision, RetentionOutcome, drop_expired_months
from worker.erasure.erase import finish_erasures
from worker.events.partitions import ensure_partitions, set_lock_timeout
from worker.store.mirror.purge import purge_deleted
from worker.store.mirror.samples import purge_samples
from worker.store.service.maintenance import finish_maintenance, start_maintenance
from worker.store.service.sign_ins import purge_sign_ins
from worker.store.state.operations import forget_idempotency_keys, purge_operations
from worker.store.state.runs import purge_runs
from worker.sync.runtime import Runtime
from worker.tasks.base import get_runtime, log_task


@shared_task(name="maintenance.hourly")
def hourly() -> None:
    """Run maintenance, unless another process runs it or has just done so."""
    with log_task("maintenance"):
        run_maintenance_if_due(get_runtime())


def run_maintenance_if_due(runtime: Runtime) -> bool:
    """Run maintenance if it is due, and return whether it was.

    A process that is killed leaves it due; one that met a bug does not.
    """
    with runtime.database.open_transaction() as db:
        if not start_maintenance(db):
            return False
    try:
        run_maintenance(runtime)
    except Exception:
        _finish(runtime)
        raise
    _finish(runtime)
    return True


def _finish(runtime: Runtime) -> None:
    with runtime.database.open_transaction() as db:
        finish_maintenance(db)


def run_maintenance(runtime: Runtime) -> None:
    """Run every chore, even if others fail. Raises the bugs that occurred, at the end."""
    done: dict[str, Any] = {}
    bugs: list[Exception] = []
    for name, chore in CHORES.items():
        try:
            with log_task("maintenance", chore=name):
                done[name] = chore(runtime)
        except Exception as bug:  # noqa: BLE001 - raised below, once the others are done
            bugs.append(bug)
    get_logger().info("maintenance done", **done)
    if bugs:
        raise ExceptionGroup("maintenance chores failed", bugs)


def _create_partitions(runtime: Runtime) -> list[str]:
    with runtime.database.open_transaction() as db:
        set_lock_timeout(db)
        return ensure_partitions(db)


def _drop_partitions(runtime: Runtime) -> list[str]:
    settings = runtime.settings
    outcomes = drop_expired_months(
        runtime.database, settings.events_days, settings.events_grace_days
    )
    for outcome in outcomes:
        log_retention(outcome)
    return [one.month.label for one in outcomes if one.decision is RetentionDecision.DROPPED]


def _purge_deleted(runtime: Runtime) -> int:
    return purge_deleted(runtime.database, runtime.settings.purge_days)


def _purge_samples(runtime: Runtime) -> int:
    return purge_samples(runtime.database, runtime.settings.events_days)


def _purge_runs(runtime: Runtime) -> int:
    return purge_runs(runtime.database)


def _continue_erasures(runtime: Runtime) -> int:
    return finish_erasures(runtime.database)


def _forget_keys(runtime: Runtime) -> int:
    with runtime.database.open_transaction() as db:
        return forget_idempotency_keys(db)


def _purge_operations(runtime: Runtime) -> int:
    with runtime.database.open_transaction() as db:
        return purge_operations(db)


def _purge_sign_ins(runtime: Runtime) -> int:
    with runtime.database.open_transaction() as db:
        return purge_sign_ins(db)


CHORES: dict[str, Callable[[Runtime], Sequence[str] | int]] = {
    "partitions_created": _create_partitions,
    "partitions_dropped": _drop_partitions,
    "rows_purged": _purge_deleted,
    "samples_purged": _purge_samples,
    "runs_purged": _purge_runs,
    "events_redacted": _continue_erasures,
    "idempotency_keys_forgotten": _forget_keys,
    "operations_purged": _purge_operations,
    "sign_ins_purged": _purge_sign_ins,
}
"""The chores, by the name under which their result is logged."""


def log_retention(outcome: RetentionOutcome) -> None:
    """Log each sink that a month of events is kept for, or that has lost events of it."""
    log = get_logger()
    if outcome.decision is RetentionDecision.BUSY:
        log.warning(
            "partition not dropped: it is being read",
            month=outcome.month.label,
            hint="the next maintenance tries again",
        )
    for missed in outcome.undelivered:
        fields = missed.to_log()
        if outcome.decision is RetentionDecision.DROPPED:
            log.error("undelivered events dropped", **fields, hint=HINT_AFTER_DROP)
        elif missed.status is SinkStatus.ACTIVE:
            log.error(
                "events kept past retention for a sink",
                **fields,
                dropped_at=outcome.expires_at,
                hint=HINT_BEFORE_DROP,
            )


HINT_BEFORE_DROP = "fix the receiver, or run 'tenant-mirror sinks pause' or 'sinks remove'"
HINT_AFTER_DROP = "'tenant-mirror events replay SINK --from snapshot' restores it"
