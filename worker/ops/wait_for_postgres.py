"""Waiting for a Postgres that is not there yet, for processes that run for ever."""

from threading import Event
from typing import Final

from worker.core.errors import ServerUnavailable
from worker.core.log import get_logger
from worker.ops.schema.version import check_schema
from worker.store.engine import Database

RETRY_SECONDS: Final = 2.0


def wait_for_postgres(database: Database, stop: Event) -> bool:
    """Wait until Postgres answers.

    False if told to stop before. Raises ConfigurationError for another schema.
    """
    while not stop.is_set():
        try:
            check_schema(database)
        except ServerUnavailable as trouble:
            get_logger().warning("waiting for Postgres", reason=str(trouble))
            stop.wait(RETRY_SECONDS)
        else:
            return True
    return False
