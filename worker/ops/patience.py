"""Waiting for a Postgres that is not there yet, for processes that run for ever."""

from threading import Event
from typing import Final

from worker.core.errors import Away
from worker.core.log import logger
from worker.ops.schema import check
from worker.store.engine import Database

SECONDS: Final = 2.0


def when_ready(database: Database, stop: Event) -> bool:
    """Wait until Postgres answers; False if told to stop before. Raises Halt for another schema."""
    while not stop.is_set():
        try:
            check(database)
        except Away as trouble:
            logger().warning("waiting for Postgres", reason=str(trouble))
            stop.wait(SECONDS)
        else:
            return True
    return False
