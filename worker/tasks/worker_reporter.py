"""Report the queues that a worker consumes, from the loop that consumes them.

A worker whose loop hangs, or that is frozen or cut off from Redis, reports nothing.
"""

import os
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from celery import bootsteps

from worker.core.errors import MirrorError
from worker.core.log import get_logger
from worker.core.process import heartbeat
from worker.core.process.identity import get_process_table, identify_this_process
from worker.core.settings import load_settings
from worker.store.orphaned_leases import free_orphaned_leases
from worker.store.service.host_clocks import ClockReport
from worker.store.service.workers import remove_predecessors, remove_worker, report_worker
from worker.wiring import open_database

REPORT_INTERVAL = 5.0


class WorkerReporter(bootsteps.StartStopStep):
    """Reports every few seconds while the consumer runs."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._database = open_database(load_settings())
        self._timer: Any = None
        self._clock_report = ClockReport()

    def start(self, consumer: Any) -> None:
        self._write(lambda db: remove_predecessors(db, _get_worker_name(consumer)))
        self._report(consumer)
        self._timer = consumer.timer.call_repeatedly(REPORT_INTERVAL, self._report, (consumer,))

    def stop(self, consumer: Any) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._write(lambda db: remove_worker(db, _get_worker_name(consumer)))

    def _report(self, consumer: Any) -> None:
        heartbeat.write_heartbeat(consumer.hostname.partition("@")[0])
        queues = list(consumer.app.amqp.queues.consume_from)
        pids = consumer.pool.info.get("processes") or [os.getpid()]
        processes = [str(get_process_table().identify(pid)) for pid in pids]
        self._write(
            lambda db: self._report_to_database(db, _get_worker_name(consumer), queues, processes)
        )

    def _report_to_database(
        self, db: sa.Connection, name: str, queues: list[str], processes: list[str]
    ) -> None:
        """Report the worker, and free the leases of its killed children.

        In a container of its own, no other process can know that they are dead.
        """
        report_worker(db, name, queues, processes)
        free_orphaned_leases(db)
        self._clock_report.report(db)

    def _write(self, write: Callable[[sa.Connection], None]) -> None:
        """Write on a new connection, so that none is open when a child is forked."""
        try:
            with self._database.open_transaction() as db:
                write(db)
        except MirrorError as error:
            get_logger().warning("worker report failed", reason=str(error))
        finally:
            self._database.close()


def _get_worker_name(consumer: Any) -> str:
    """Return a unique name: containers may share host name, node name and process number."""
    return f"{consumer.hostname}:{identify_this_process().id_without_host}"
