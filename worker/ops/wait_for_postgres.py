"""Waits for Postgres at the start of processes that run for ever."""

from threading import Event
from typing import Final

from worker.core.errors import ServerUnavailable
from worker.core.log import get_logger
from worker.store.engine import Database
from worker.store.schema_version import check_schema

RETRY_SECONDS: Final = 2.0


def wait_for_postgres(database: Database, stop: Event) -> bool:
    """Wait until Postgres answers; return False if ``stop`` was set before.

    Raises ConfigurationError for another schema.
    """
    while not stop.is_set():
        try:
            check_schema(database)
        except ServerUnavailable as error:
            get_logger().warning("waiting for Postgres", reason=str(error))
            stop.wait(RETRY_SECONDS)
        else:
            return True
    return False
