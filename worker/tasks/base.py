"""What every task shares: the process's kit, bound log context, and errors that end in a log.

The kit is built on first use, which is after the fork.
"""

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from kombu.exceptions import OperationalError
from redis import RedisError

from worker.core.errors import (
    ConfigurationError,
    LeaseHeld,
    LeaseLost,
    MirrorError,
    RetryLater,
    ServerUnavailable,
    StorageFull,
)
from worker.core.log import get_logger
from worker.core.redis.errors import classify_redis_error
from worker.core.settings import load_settings
from worker.store.orphaned_leases import free_orphaned_leases
from worker.sync.runtime import Runtime
from worker.wiring import close_runtime, open_runtime

_runtimes: dict[int, Runtime] = {}


def get_runtime() -> Runtime:
    """This process's kit. A forked child never uses its parent's."""
    pid = os.getpid()
    if pid not in _runtimes:
        _runtimes.clear()
        _runtimes[pid] = open_runtime(load_settings())
        with (
            contextlib.suppress(ServerUnavailable, RetryLater),
            _runtimes[pid].database.open_transaction() as db,
        ):
            free_orphaned_leases(db)
    return _runtimes[pid]


def discard_runtime() -> None:
    """Close what this process opened."""
    found = _runtimes.pop(os.getpid(), None)
    if found is not None:
        close_runtime(found)


@contextmanager
def log_task(action: str, **about: object) -> Iterator[None]:
    """Log how a task ended.

    Our own troubles are logged and end there: the database says when the connection is due
    again. Anything else is a bug and goes up to Celery.
    """
    with structlog.contextvars.bound_contextvars(action=action, **about):
        log = get_logger()
        try:
            yield
        except (LeaseHeld, LeaseLost) as trouble:
            log.info("left to another process", reason=str(trouble))
        except ConfigurationError as trouble:
            log.critical("halted", reason=str(trouble))
        except StorageFull as trouble:
            log.critical("no room", reason=str(trouble), do="make room; it goes on by itself")
            _report_shortage(trouble)
        except ServerUnavailable as trouble:
            log.warning("a server is away", reason=str(trouble))
        except MirrorError as trouble:
            log.warning("not done", reason=str(trouble))


def _report_shortage(trouble: StorageFull) -> None:
    """For ``tenant-mirror status``: a database that is full cannot be asked to keep it."""
    found = _runtimes.get(os.getpid())
    if found is not None:
        found.nango.limiter.note_shortage(trouble.message)


def send_task(task: object, queue: str, *arguments: object) -> None:
    """Send a message. Raises MirrorError where Redis does not take it."""
    try:
        task.apply_async(arguments, queue=queue)  # type: ignore[attr-defined]
    except (OperationalError, RedisError) as fault:
        raise classify_redis_error(fault) from fault
