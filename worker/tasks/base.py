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

from worker.core.errors import Away, Busy, Fenced, Full, Halt, Later, Trouble
from worker.core.log import logger
from worker.core.settings import load_settings
from worker.nango.ledger import redis_trouble
from worker.store.orphans import free_orphans
from worker.sync.run import Kit
from worker.wiring import close_kit, open_kit

_kits: dict[int, Kit] = {}


def kit() -> Kit:
    """This process's kit. A forked child never uses its parent's."""
    pid = os.getpid()
    if pid not in _kits:
        _kits.clear()
        _kits[pid] = open_kit(load_settings())
        with contextlib.suppress(Away, Later), _kits[pid].database.begin() as connection:
            free_orphans(connection)
    return _kits[pid]


def drop_kit() -> None:
    """Close what this process opened."""
    found = _kits.pop(os.getpid(), None)
    if found is not None:
        close_kit(found)


@contextmanager
def told(action: str, **about: object) -> Iterator[None]:
    """Log how a task ended.

    Our own troubles are logged and end there: the database says when the connection is due
    again. Anything else is a bug and goes up to Celery.
    """
    with structlog.contextvars.bound_contextvars(action=action, **about):
        log = logger()
        try:
            yield
        except (Busy, Fenced) as trouble:
            log.info("left to another process", reason=str(trouble))
        except Halt as trouble:
            log.critical("halted", reason=str(trouble))
        except Full as trouble:
            log.critical("no room", reason=str(trouble), do="make room; it goes on by itself")
            _note_shortage(trouble)
        except Away as trouble:
            log.warning("a server is away", reason=str(trouble))
        except Trouble as trouble:
            log.warning("not done", reason=str(trouble))


def _note_shortage(trouble: Full) -> None:
    """For ``tenant-mirror status``: a database that is full cannot be asked to keep it."""
    found = _kits.get(os.getpid())
    if found is not None:
        found.nango.gate.note_shortage(trouble.message)


def send(task: object, queue: str, *arguments: object) -> None:
    """Send a message. Raises Trouble where Redis does not take it."""
    try:
        task.apply_async(arguments, queue=queue)  # type: ignore[attr-defined]
    except (OperationalError, RedisError) as fault:
        raise redis_trouble(fault) from fault
