"""The way to Postgres: one small pool for each process, every timeout set, errors translated.

Pooled connections must never cross a fork: the child would read answers meant for its parent.
A connection that was opened by another process is refused at checkout.
"""

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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

from worker.core.errors import ConfigurationError, MirrorError, RetryLater, ServerUnavailable
from worker.store.address import describe_server, parse_database_url, refuse_environment_overrides
from worker.store.connecting import InvalidConnectionParameters, connect
from worker.store.database_error import strip_text, strip_values, summarize_error
from worker.store.session import CONNECT_ARGS, begin_transaction, configure_session
from worker.store.shortage import classify_resource_error

_DRIVER_ERRORS = (
    psycopg.DataError,
    psycopg.IntegrityError,
    psycopg.ProgrammingError,
    psycopg.NotSupportedError,
)
"""Errors that the driver raises by itself, without a SQL state, before anything is sent."""

_POOLER_LOGIN_MESSAGES: Final = (
    "does not exist",
    "authentication failed",
    "no pg_hba.conf entry",
    "no password supplied",
    "no such database",
    "no such user",
    "user not found",
    "endpoint ID is not specified",
)
"""How poolers, which speak English alone, keep us out where their SQL state says nothing of it."""

_VAGUE_STATES: Final = ("", "08P01", "XX000")
"""What poolers answer with, whatever the reason; Postgres itself always says more."""

_PARAMETER_STATES: Final = ("42704", "22", "42601", "42602", "55P02", "0A000")
"""Answers to a connection that asks for a setting which is unknown, wrong, or not to be changed."""

READ_ONLY_STATE: Final = "25006"
"""A primary that has become a standby; the connections to it would go on to fail."""

_UNAVAILABLE_STATES = ("08", "53", "57P", READ_ONLY_STATE, "25P03", "25P04", "58000")
"""Lost or overloaded, a standby, a session that was cut for idling."""

_IS_DIRECT: Final = "own"
"""Whether no pooler stands between a pooled connection and its session on Postgres."""

_DATA_STATES: Final = ("21", "22", "23", "44", "54")
"""Classes of SQL states that are about the values which were sent, not about the statement."""

_LAST_USED: Final = "worked"
"""When a pooled connection was last seen to be alive."""

PING_AFTER_SECONDS: Final = 1.0
"""How long after a transaction that went well its connection is taken to be alive, unasked."""

_OTHER_SCANS: Final = ("enable_sort", "enable_bitmapscan", "enable_seqscan")
"""Ways to rows other than along an index."""


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


def prefer_hash_joins(db: sa.Connection) -> None:
    """For the rest of the transaction, plan joins of whole walks by hash.

    A table that was filled a moment ago has no statistics yet; a planner that takes it for empty
    picks nested loops, which are quadratic here.
    """
    db.execute(text("set local enable_nestloop = off"))


def force_index_scans(db: sa.Connection) -> None:
    """For the rest of the transaction, find rows by an index and in its order.

    Without fresh statistics the planner would read and sort all that is left, for each batch.
    """
    _set_scan_methods(db, "off")


def reset_planner(db: sa.Connection) -> None:
    """The planner is free again."""
    _set_scan_methods(db, "default")


def _set_scan_methods(db: sa.Connection, state: str) -> None:
    statement = "; ".join(f"set local {way} to {state}" for way in _OTHER_SCANS)
    with get_driver_connection(db).cursor() as cursor:
        cursor.execute(statement.encode())


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


def translate_error(fault: Exception, place: str) -> Exception:
    """A database error as it may leave a transaction: as a trouble, or with its names only."""
    try:
        if isinstance(fault, psycopg.Error):
            return _classify_error(fault, place)
        return _translate_wrapped(fault, place)
    except psycopg.Error as bug:
        return strip_values(bug)


def _translate_wrapped(fault: Exception, place: str) -> MirrorError:
    """SQLAlchemy's wrapper of a database error, as one of ours."""
    if isinstance(fault, DBAPIError) and isinstance(fault.orig, psycopg.Error):
        return _classify_error(fault.orig, place)
    return ServerUnavailable(f"Postgres at {place} has no free connection", after=30)


def _classify_error(fault: psycopg.Error, place: str) -> MirrorError:
    """What a psycopg failure means. Bugs of ours (a broken statement) pass through as they are."""
    state = fault.sqlstate or ""
    if _is_parameter_refused(fault, state):
        return ConfigurationError(
            f"Postgres at {place} refuses what the connection asks for ({summarize_error(fault)}); "
            "take it out of DATABASE_URL and out of the PG... variables of the environment"
        )
    if _is_login_refused(fault, state):
        return ConfigurationError(
            f"Postgres at {place} does not let us in: {summarize_error(fault)}"
        )
    if state in ("42P01", "3F000", "42703"):
        return ConfigurationError(
            f"Postgres at {place} lacks our tables (SQL state {state}); run 'tenant-mirror migrate'"
        )
    if state == "42501":
        return ConfigurationError(
            f"Postgres at {place} denies our role a right: {summarize_error(fault)}"
        )
    if (trouble := _classify_temporary(fault, state, place)) is not None:
        return trouble
    is_lost = fault.pgconn is not None or not (state or isinstance(fault, _DRIVER_ERRORS))
    if state.startswith(_UNAVAILABLE_STATES) or is_lost:
        return ServerUnavailable(
            f"Postgres at {place} cannot be reached: {summarize_error(fault)}", after=10
        )
    raise fault


def _classify_temporary(fault: psycopg.Error, state: str, place: str) -> MirrorError | None:
    """What passes by itself, or once somebody has made room."""
    if state in ("40001", "40P01", "55P03", "57014"):
        return RetryLater(
            f"Postgres had to give up a statement ({summarize_error(fault)})", after=5
        )
    return classify_resource_error(state, place, summarize_error(fault))


def get_sql_state(fault: BaseException) -> str | None:
    """The SQL state of a database error, also of one that SQLAlchemy wraps; else None."""
    origin = fault.orig if isinstance(fault, DBAPIError) else fault
    return origin.sqlstate if isinstance(origin, psycopg.Error) else None


def is_data_error(fault: BaseException) -> bool:
    """Whether a failure is about values that Postgres or the driver does not take."""
    if isinstance(fault, UnicodeError | OverflowError | RecursionError):
        return True
    origin = fault.orig if isinstance(fault, DBAPIError) else fault
    if not isinstance(origin, psycopg.Error):
        return False
    state = origin.sqlstate or ""
    return state.startswith(_DATA_STATES) if state else isinstance(origin, psycopg.DataError)


def _is_login_refused(fault: psycopg.Error, state: str) -> bool:
    if state not in _VAGUE_STATES:
        return state.startswith("28") or state == "3D000"
    asked = fault.pgconn is not None and fault.pgconn.needs_password
    return asked or _has_vague_words(fault, state, _POOLER_LOGIN_MESSAGES)


def _is_parameter_refused(fault: psycopg.Error, state: str) -> bool:
    """Whether a connection was refused for its parameters, not for who asks."""
    if isinstance(fault, InvalidConnectionParameters):
        return True
    if fault.pgconn is not None and state.startswith(_PARAMETER_STATES):
        return True
    return _has_vague_words(fault, state, ("startup parameter",))


def _has_vague_words(fault: psycopg.Error, state: str, words: Iterable[str]) -> bool:
    """Only of errors whose state says nothing."""
    vague = state == "" or (state in _VAGUE_STATES and fault.pgconn is not None)
    return vague and any(word in str(fault) for word in words)
