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
from psycopg.adapt import Loader
from psycopg.types.json import set_json_loads
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from worker.core.errors import Away, Halt, Later, Trouble
from worker.store.address import normalised, place_of, refuse_other_places
from worker.store.connecting import WrongParameters, connect
from worker.store.database_error import first_line, names_only, without_object
from worker.store.session import CONNECT_ARGS, begin, settle_session
from worker.store.shortage import shortage

_OURS = (
    psycopg.DataError,
    psycopg.IntegrityError,
    psycopg.ProgrammingError,
    psycopg.NotSupportedError,
)
"""Errors that the driver raises by itself, without a SQL state, before anything is sent."""

_POOLERS_WORDS: Final = (
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

_VAGUE: Final = ("", "08P01", "XX000")
"""What poolers answer with, whatever the reason; Postgres itself always says more."""

_UNGRANTED: Final = ("42704", "22", "42601", "42602", "55P02", "0A000")
"""Answers to a connection that asks for a setting which is unknown, wrong, or not to be changed."""

_READ_ONLY: Final = "25006"
"""A primary that has become a standby; the connections to it would go on to fail."""

_AWAY = ("08", "53", "57P", _READ_ONLY, "25P03", "25P04", "58000")
"""Lost or overloaded, a standby, a session that was cut for idling."""

_OWN: Final = "own"
"""Whether no pooler stands between a pooled connection and its session on Postgres."""

_DATA: Final = ("21", "22", "23", "44", "54")
"""Classes of SQL states that are about the values which were sent, not about the statement."""

_WORKED: Final = "worked"
"""When a pooled connection was last seen to be alive."""

TRUSTED_SECONDS: Final = 1.0
"""How long after a transaction that went well its connection is taken to be alive, unasked."""

_BESIDE_THE_KEY: Final = ("enable_sort", "enable_bitmapscan", "enable_seqscan")
"""Ways to rows other than along an index."""


class _GuidAsText(Loader):
    """GUIDs stay text: they are keys to look up, and making objects of them costs time."""

    def load(self, data: Any) -> str:
        return bytes(data).decode("ascii")


def engine_to(url: URL, **pool: Any) -> Engine:
    """An engine whose transactions have our settings. To connect raises Halt where it is refused.

    ``PGOPTIONS`` is not for us, and a pooler would refuse it; options in the address are kept, as
    some hosts tell their customers apart by them.
    """
    refuse_other_places(url, os.environ)
    arguments = {"options": "", **CONNECT_ARGS}
    if "options" in url.query:
        del arguments["options"]
    engine = create_engine(url, connect_args=arguments, hide_parameters=True, **pool)
    event.listen(engine, "do_connect", lambda _, __, args, parameters: connect(*args, **parameters))
    # The driver looks things up as it connects: our settings go first.
    event.listen(engine, "connect", _prepare, insert=True)
    event.listen(engine, "begin", _begin)
    return engine


class Database:
    """Transactions on the mirror's database."""

    def __init__(
        self, address: str, *, pool_size: int = 1, trusted_seconds: float = TRUSTED_SECONDS
    ) -> None:
        self.url = normalised(address)
        self._trusted_seconds = trusted_seconds
        self._engine = engine_to(
            self.url, pool_size=pool_size, max_overflow=1, pool_timeout=30, pool_recycle=1800
        )
        event.listen(self._engine, "checkout", self._usable)

    @property
    def place(self) -> str:
        """Where the database is, without the password."""
        return place_of(self.url)

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A transaction: committed at the end, rolled back by any exception.

        Raises Away where Postgres cannot be reached, Halt where it does not let us in.
        """
        try:
            with self._engine.begin() as connection:
                info = connection.info
                yield connection
            info[_WORKED] = time.monotonic()
        except (DBAPIError, PoolTimeout, psycopg.Error) as fault:
            if sql_state(fault) == _READ_ONLY:
                self._engine.dispose()
            raise failure(fault, self.place) from None
        except UnicodeError as fault:
            raise without_object(fault) from None

    def close(self) -> None:
        self._engine.dispose()

    def _usable(self, raw: Any, record: Any, proxy: Any) -> None:
        """Refuse a connection from before a fork, and one that died since it was last used."""
        if record.info["pid"] != os.getpid():
            record.dbapi_connection = proxy.dbapi_connection = None
            raise DisconnectionError("a pooled connection crossed a fork")
        if time.monotonic() - record.info[_WORKED] > self._trusted_seconds:
            try:
                self._engine.dialect.do_ping(raw)
            except psycopg.Error as fault:
                raise DisconnectionError("a pooled connection has died") from fault


def driver(connection: Connection) -> psycopg.Connection[Any]:
    """The psycopg connection below, for COPY."""
    raw = connection.connection.driver_connection
    assert isinstance(raw, psycopg.Connection)
    return raw


def join_by_hash(connection: Connection) -> None:
    """For the rest of the transaction, plan joins of whole walks by hash.

    A table that was filled a moment ago has no statistics yet; a planner that takes it for empty
    picks nested loops, which are quadratic here.
    """
    connection.execute(text("set local enable_nestloop = off"))


def along_the_key(connection: Connection) -> None:
    """For the rest of the transaction, find rows by an index and in its order.

    Without fresh statistics the planner would read and sort all that is left, for each batch.
    """
    _set_ways(connection, "off")


def as_planned(connection: Connection) -> None:
    """The planner is free again."""
    _set_ways(connection, "default")


def _set_ways(connection: Connection, state: str) -> None:
    statement = "; ".join(f"set local {way} to {state}" for way in _BESIDE_THE_KEY)
    with driver(connection).cursor() as cursor:
        cursor.execute(statement.encode())


def is_own_session(connection: Connection) -> bool:
    """Whether the session on Postgres is ours alone; a pooler's is shared with other clients."""
    return bool(connection.info[_OWN])


def _begin(connection: Connection) -> None:
    if connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
        return
    raw = driver(connection)
    try:
        begin(raw)
    except psycopg.Error as fault:
        # SQLAlchemy does not see this statement: unasked, it would roll back what is cut off.
        if raw.closed:
            connection.invalidate(fault)
        raise


def _prepare(raw: psycopg.Connection[Any], record: Any) -> None:
    record.info[_OWN] = settle_session(raw)
    record.info["pid"] = os.getpid()
    record.info[_WORKED] = time.monotonic()
    raw.adapters.register_loader("uuid", _GuidAsText)
    set_json_loads(msgspec.json.decode, raw)


def failure(fault: Exception, place: str) -> Exception:
    """A database error as it may leave a transaction: as a trouble, or with its names only."""
    try:
        if isinstance(fault, psycopg.Error):
            return _database_trouble(fault, place)
        return translated(fault, place)
    except psycopg.Error as bug:
        return names_only(bug)


def translated(fault: Exception, place: str) -> Trouble:
    """SQLAlchemy's wrapper of a database error, as one of ours."""
    if isinstance(fault, DBAPIError) and isinstance(fault.orig, psycopg.Error):
        return _database_trouble(fault.orig, place)
    return Away(f"Postgres at {place} has no free connection", after=30)


def _database_trouble(fault: psycopg.Error, place: str) -> Trouble:
    """What a psycopg failure means. Bugs of ours (a broken statement) pass through as they are."""
    state = fault.sqlstate or ""
    if _is_ungranted(fault, state):
        return Halt(
            f"Postgres at {place} refuses what the connection asks for ({first_line(fault)}); "
            "take it out of DATABASE_URL and out of the PG... variables of the environment"
        )
    if _is_kept_out(fault, state):
        return Halt(f"Postgres at {place} does not let us in: {first_line(fault)}")
    if state in ("42P01", "3F000", "42703"):
        return Halt(
            f"Postgres at {place} lacks our tables (SQL state {state}); run 'tenant-mirror migrate'"
        )
    if state == "42501":
        return Halt(f"Postgres at {place} denies our role a right: {first_line(fault)}")
    if (trouble := _passing(fault, state, place)) is not None:
        return trouble
    is_lost = fault.pgconn is not None or not (state or isinstance(fault, _OURS))
    if state.startswith(_AWAY) or is_lost:
        return Away(f"Postgres at {place} cannot be reached: {first_line(fault)}", after=10)
    raise fault


def _passing(fault: psycopg.Error, state: str, place: str) -> Trouble | None:
    """What passes by itself, or once somebody has made room."""
    if state in ("40001", "40P01", "55P03", "57014"):
        return Later(f"Postgres had to give up a statement ({first_line(fault)})", after=5)
    return shortage(state, place, first_line(fault))


def sql_state(fault: BaseException) -> str | None:
    """The SQL state of a database error, also of one that SQLAlchemy wraps; else None."""
    origin = fault.orig if isinstance(fault, DBAPIError) else fault
    return origin.sqlstate if isinstance(origin, psycopg.Error) else None


def refuses_data(fault: BaseException) -> bool:
    """Whether a failure is about values that Postgres or the driver does not take."""
    if isinstance(fault, UnicodeError | OverflowError | RecursionError):
        return True
    origin = fault.orig if isinstance(fault, DBAPIError) else fault
    if not isinstance(origin, psycopg.Error):
        return False
    state = origin.sqlstate or ""
    return state.startswith(_DATA) if state else isinstance(origin, psycopg.DataError)


def _is_kept_out(fault: psycopg.Error, state: str) -> bool:
    if state not in _VAGUE:
        return state.startswith("28") or state == "3D000"
    asked = fault.pgconn is not None and fault.pgconn.needs_password
    return asked or _says(fault, state, _POOLERS_WORDS)


def _is_ungranted(fault: psycopg.Error, state: str) -> bool:
    """Whether a connection was refused for its parameters, not for who asks."""
    if isinstance(fault, WrongParameters):
        return True
    if fault.pgconn is not None and state.startswith(_UNGRANTED):
        return True
    return _says(fault, state, ("startup parameter",))


def _says(fault: psycopg.Error, state: str, words: Iterable[str]) -> bool:
    """Only of errors whose state says nothing."""
    vague = state == "" or (state in _VAGUE and fault.pgconn is not None)
    return vague and any(word in str(fault) for word in words)
