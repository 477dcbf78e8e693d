"""The way to Postgres: one small pool for each process, every timeout set, errors translated.

Pooled connections must never cross a fork: the child would read answers meant for its parent.
A connection that was opened by another process is refused at checkout.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import msgspec
import psycopg
import sqlalchemy as sa
from psycopg.adapt import Loader
from psycopg.types.json import set_json_loads
from sqlalchemy import Engine, create_engine, event
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
"""Whether no pooler stands between a pooled connection and its session on Postgres."""


_LAST_USED: Final = "worked"
"""When a pooled connection was last seen to be alive."""

PING_AFTER_SECONDS: Final = 1.0
"""How long after a transaction that went well its connection is taken to be alive, unasked."""


class _GuidAsText(Loader):
    """GUIDs stay text: they are keys to look up, and making objects of them costs time."""

    def load(self, data: Any) -> str:
        return bytes(data).decode("ascii")


def create_mirror_engine(url: URL, **pool: Any) -> Engine:
    """An engine whose transactions have our settings.

    To connect raises ConfigurationError where it is refused.

    ``PGOPTIONS`` is not for us, and a pooler would refuse it; options in the address are kept, as
    some hosts tell their customers apart by them.
    """
    refuse_environment_overrides(url, os.environ)
    arguments = {"options": "", **CONNECT_ARGS}
    if "options" in url.query:
        del arguments["options"]
    engine = create_engine(url, connect_args=arguments, hide_parameters=True, **pool)
    event.listen(engine, "do_connect", lambda _, __, args, parameters: connect(*args, **parameters))
    # The driver looks things up as it connects: our settings go first.
    event.listen(engine, "connect", _prepare_connection, insert=True)
    event.listen(engine, "begin", _begin)
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
        """Where the database is, without the password."""
        return describe_server(self.url)

    @contextmanager
    def open_transaction(self) -> Iterator[sa.Connection]:
        """A transaction: committed at the end, rolled back by any exception.

        Raises ServerUnavailable where Postgres cannot be reached, Halt where it does not let us in.
        """
        try:
            with self._engine.begin() as db:
                info = db.info
                yield db
            info[_LAST_USED] = time.monotonic()
        except (DBAPIError, PoolTimeout, psycopg.Error) as fault:
            if get_sql_state(fault) == READ_ONLY_STATE:
                self._engine.dispose()
            raise translate_error(fault, self.server) from None
        except UnicodeError as fault:
            raise strip_text(fault) from None

    def close(self) -> None:
        self._engine.dispose()

    def _check_connection(self, raw: Any, record: Any, proxy: Any) -> None:
        """Refuse a connection from before a fork, and one that died since it was last used."""
        if record.info["pid"] != os.getpid():
            record.dbapi_connection = proxy.dbapi_connection = None
            raise DisconnectionError("a pooled connection crossed a fork")
        if time.monotonic() - record.info[_LAST_USED] > self._trusted_seconds:
            try:
                self._engine.dialect.do_ping(raw)
            except psycopg.Error as fault:
                raise DisconnectionError("a pooled connection has died") from fault


def get_driver_connection(db: sa.Connection) -> psycopg.Connection[Any]:
    """The psycopg connection below, for COPY."""
    raw = db.connection.driver_connection
    assert isinstance(raw, psycopg.Connection)
    return raw


def is_own_session(db: sa.Connection) -> bool:
    """Whether the session on Postgres is ours alone; a pooler's is shared with other clients."""
    return bool(db.info[_IS_DIRECT])


def _begin(db: sa.Connection) -> None:
    if db.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
        return
    raw = get_driver_connection(db)
    try:
        begin_transaction(raw)
    except psycopg.Error as fault:
        # SQLAlchemy does not see this statement: unasked, it would roll back what is cut off.
        if raw.closed:
            db.invalidate(fault)
        raise


def _prepare_connection(raw: psycopg.Connection[Any], record: Any) -> None:
    record.info[_IS_DIRECT] = configure_session(raw)
    record.info["pid"] = os.getpid()
    record.info[_LAST_USED] = time.monotonic()
    raw.adapters.register_loader("uuid", _GuidAsText)
    set_json_loads(msgspec.json.decode, raw)
