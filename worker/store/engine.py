"""Connections to Postgres: a small pool per process, all timeouts set, errors translated.

Pooled connections must never cross a fork: the child would read answers meant for its parent.
Checkout refuses a connection that another process opened.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

import msgspec
import psycopg
import sqlalchemy as sa
from psycopg.adapt import Loader
from psycopg.types.json import set_json_loads
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from worker.store.database_url import (
    describe_server,
    parse_database_url,
    refuse_environment_overrides,
)
from worker.store.errors import (
    READ_ONLY_STATE,
    get_sql_state,
    strip_text,
    translate_error,
)
from worker.store.libpq import connect
from worker.store.session_settings import CONNECT_ARGS, begin_transaction, configure_session

_IS_DIRECT: Final = "own"
"""Key in ``info``: whether the connection has its own Postgres session, without a pooler."""


_LAST_USED: Final = "worked"
"""Key in ``info``: when the connection was last known to be alive."""

PING_AFTER_SECONDS: Final = 1.0
"""How long after a successful transaction a connection is used without a ping."""


class _GuidAsText(Loader):
    """Loads GUIDs as text: they are lookup keys, and UUID objects would cost time."""

    def load(self, data: Any) -> str:
        return bytes(data).decode("ascii")


_SERVER_TIME: Final = text("select clock_timestamp()")


def create_mirror_engine(url: URL, **pool: Any) -> Engine:
    """Return an engine whose transactions use ``session_settings``.

    Connecting raises ConfigurationError if the server refuses it. ``PGOPTIONS`` is ignored, because
    a pooler would refuse it. Options in the URL are kept: some hosts identify customers by them.
    """
    refuse_environment_overrides(url, os.environ)
    arguments = {"options": "", **CONNECT_ARGS}
    if "options" in url.query:
        del arguments["options"]
    engine = create_engine(url, connect_args=arguments, hide_parameters=True, **pool)
    event.listen(engine, "do_connect", lambda _, __, args, parameters: connect(*args, **parameters))
    # SQLAlchemy runs queries when it connects: the session settings must come first.
    event.listen(engine, "connect", _prepare_connection, insert=True)
    event.listen(engine, "begin", _begin)
    event.listen(engine, "rollback", _drop_if_busy)
    return engine


class Database:
    """Transactions on the mirror's database."""

    def __init__(
        self, address: str, *, pool_size: int = 1, ping_after_seconds: float = PING_AFTER_SECONDS
    ) -> None:
        self.url = parse_database_url(address)
        self._trusted_seconds = ping_after_seconds
        self._engine = create_mirror_engine(
            self.url, pool_size=pool_size, max_overflow=1, pool_timeout=30, pool_recycle=1800
        )
        event.listen(self._engine, "checkout", self._check_connection)

    @property
    def server(self) -> str:
        """Hosts, ports and the database name, without the password."""
        return describe_server(self.url)

    @contextmanager
    def open_transaction(self) -> Iterator[sa.Connection]:
        """Open a transaction, committed at the end and rolled back by any exception.

        Raises ServerUnavailable if Postgres cannot be reached, ConfigurationError if it refuses the
        login.
        """
        try:
            with self._engine.begin() as db:
                info = db.info
                yield db
            info[_LAST_USED] = time.monotonic()
        except (DBAPIError, PoolTimeout, psycopg.Error) as error:
            if get_sql_state(error) == READ_ONLY_STATE:
                self._engine.dispose()
            raise translate_error(error, self.server) from None
        except UnicodeError as error:
            raise strip_text(error) from None

    def close(self) -> None:
        self._engine.dispose()

    def _check_connection(self, raw: Any, record: Any, proxy: Any) -> None:
        """Refuse a connection from before a fork, or one that has died since its last use."""
        if record.info["pid"] != os.getpid():
            record.dbapi_connection = proxy.dbapi_connection = None
            raise DisconnectionError("a pooled connection crossed a fork")
        if time.monotonic() - record.info[_LAST_USED] > self._trusted_seconds:
            try:
                self._engine.dialect.do_ping(raw)
            except psycopg.Error as error:
                raise DisconnectionError("a pooled connection has died") from error


def _drop_if_busy(db: sa.Connection) -> None:
    """Close a connection in the middle of a statement, such as a COPY that Ctrl-C has interrupted.

    Postgres would refuse the rollback, and its refusal hide what has happened.
    """
    if db.closed or db.invalidated:
        return
    if get_driver_connection(db).info.transaction_status is psycopg.pq.TransactionStatus.ACTIVE:
        db.invalidate()


def get_driver_connection(db: sa.Connection) -> psycopg.Connection[Any]:
    """Return the underlying psycopg connection, for COPY."""
    raw = db.connection.driver_connection
    assert isinstance(raw, psycopg.Connection)
    return raw


def load_server_time(db: sa.Connection) -> datetime:
    """Return the time of the database server, which is the clock of the whole service."""
    now: datetime = db.execute(_SERVER_TIME).scalar_one()
    return now


def is_own_session(db: sa.Connection) -> bool:
    """Whether the connection has its own Postgres session; a pooler shares one among clients."""
    return bool(db.info[_IS_DIRECT])


def _begin(db: sa.Connection) -> None:
    if db.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
        return
    raw = get_driver_connection(db)
    try:
        begin_transaction(raw)
    except psycopg.Error as error:
        # SQLAlchemy does not see this statement and would roll back on the dead connection.
        if raw.closed:
            db.invalidate(error)
        raise


def _prepare_connection(raw: psycopg.Connection[Any], record: Any) -> None:
    record.info[_IS_DIRECT] = configure_session(raw)
    record.info["pid"] = os.getpid()
    record.info[_LAST_USED] = time.monotonic()
    raw.adapters.register_loader("uuid", _GuidAsText)
    set_json_loads(msgspec.json.decode, raw)
