"""Shared by every task: the process's runtime, log context, and errors that end in a log line.

The runtime is opened on first use, which is after the fork.
"""

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

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
from worker.core.redis.errors import REDIS_RETRY_SECONDS, classify_redis_error
from worker.core.settings import load_settings
from worker.store.orphaned_leases import free_orphaned_leases
from worker.sync.runtime import Runtime
from worker.tasks.key_rotation import KeyRotation
from worker.wiring import close_runtime, open_runtime

_QUEUE_RIGHTS: Final = (
    "the queues need LPUSH, LPUSHX, RPUSH, RPUSHX, BRPOP, RPOP, LLEN, SADD, SREM, SMEMBERS, GET, "
    "SET, DEL, MULTI and EXEC on tenant-mirror:*"
)

_runtimes: dict[int, Runtime] = {}
_rotations: dict[int, KeyRotation] = {}


def get_runtime(*, after_discovery: bool = False) -> Runtime:
    """Return this process's runtime; a forked child never uses its parent's.

    Call it between two pieces of work: another key of Nango is taken up here, by slices only
    ``after_discovery``.
    """
    pid = os.getpid()
    if pid in _runtimes:
        runtime = _runtimes[pid]
        _runtimes[pid] = _rotations[pid].follow(runtime, after_discovery=after_discovery)
    else:
        _runtimes.clear()
        _rotations.clear()
        _rotations[pid] = KeyRotation()
        _runtimes[pid] = open_runtime(load_settings())
        with (
            contextlib.suppress(ServerUnavailable, RetryLater),
            _runtimes[pid].database.open_transaction() as db,
        ):
            free_orphaned_leases(db)
    return _runtimes[pid]


def discard_runtime() -> None:
    """Close this process's runtime."""
    runtime = _runtimes.pop(os.getpid(), None)
    if runtime is not None:
        close_runtime(runtime)


@contextmanager
def log_task(action: str, **fields: object) -> Iterator[None]:
    """Log how a task ended.

    A MirrorError is logged and ends here: the database schedules the connection's next attempt. Any
    other exception is a bug and propagates to Celery.
    """
    with structlog.contextvars.bound_contextvars(action=action, **fields):
        log = get_logger()
        try:
            yield
        except (LeaseHeld, LeaseLost) as error:
            log.info("lease held by another process", reason=str(error))
        except ConfigurationError as error:
            log.critical("suspended by a configuration error", reason=str(error))
        except StorageFull as error:
            log.critical(
                "storage full",
                reason=str(error),
                hint="free some space; the service then continues by itself",
            )
            _report_shortage(error)
        except ServerUnavailable as error:
            log.warning("server unavailable", reason=str(error))
        except MirrorError as error:
            log.warning("task failed", reason=str(error))


def _report_shortage(error: StorageFull) -> None:
    """Record a full disk outside Postgres, for ``tenant-mirror status``."""
    runtime = _runtimes.get(os.getpid())
    if runtime is not None:
        runtime.nango.limiter.note_shortage(error.message)


def send_task(task: object, queue: str, *arguments: object) -> None:
    """Send a message. Raises MirrorError if Redis does not accept it or is unavailable."""
    try:
        task.apply_async(arguments, queue=queue)  # type: ignore[attr-defined]
    except (OperationalError, RedisError) as error:
        raise classify_redis_error(error, _QUEUE_RIGHTS) from error
    except AttributeError as error:
        # After a refused write, kombu now and then uses the channel that it has just closed.
        if error.name != "client" or error.obj is not None:
            raise
        raise ServerUnavailable(
            "the connection to Redis was closed while a message was sent", after=REDIS_RETRY_SECONDS
        ) from error
