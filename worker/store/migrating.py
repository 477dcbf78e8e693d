"""A migration beside others: one migrator at a time, limits on its waits, and who holds it up.

A statement that waits cannot ask what it waits for, and once it has given up the answer is gone.
So a second connection, the guard, holds the lock of migrators and looks at the waits meanwhile.

An index that is built concurrently waits for each transaction that has a snapshot at one moment of
the build, and until that transaction ends. So the guard has none open: the lock belongs to its
session, and each look is a transaction of its own. Behind a transaction pooler a session would not
keep the lock; there the guard's transaction does, and looks are few.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import psycopg
from sqlalchemy import Connection, Engine, event

from worker.store.engine import driver, is_own_session

ADVISORY_LOCK: Final = 0x7E4A_4D49
WAIT_SECONDS: Final = 0.5
LOOK_SECONDS: Final = 0.2
RECENT_SECONDS: Final = 5.0
_TRY_LOCK: Final = f"select pg_try_advisory_lock({ADVISORY_LOCK})".encode()
_TRY_LOCK_IN_TRANSACTION: Final = f"select pg_try_advisory_xact_lock({ADVISORY_LOCK})".encode()

# Of a statement in a transaction the process is known. What runs outside of one may run in any
# session of a pooler, and is known by its text.
_WAITS: Final = """
    select w.pid, extract(epoch from clock_timestamp() - w.waitstart)::float8,
           b.pid, a.application_name, a.usename::text, a.state,
           extract(epoch from clock_timestamp() - a.xact_start)::float8
      from pg_locks w
      join pg_stat_activity m on m.pid = w.pid
     cross join unnest(pg_blocking_pids(w.pid)) b (pid)
      left join pg_stat_activity a on a.pid = b.pid
     where not w.granted and m.datname = current_database() and m.usename = session_user
       and (m.pid = {pid} or m.application_name = 'tenant-mirror'
            and m.query ~* '(index concurrently|validate constraint)')
     order by a.xact_start nulls last, b.pid
"""


@dataclass(frozen=True)
class Limits:
    """How long the statements of a migration may wait and run, in seconds.

    In a transaction, what waits for a lock makes others wait behind it. What is done concurrently,
    outside of transactions, makes nobody wait: it may wait longer, and run as long as it takes.
    """

    lock: float = 4
    statement: float = 60
    concurrent_lock: float = 20

    @property
    def in_transactions(self) -> dict[str, float]:
        return {"lock_timeout": self.lock, "statement_timeout": self.statement}

    @property
    def outside(self) -> dict[str, float]:
        return {"lock_timeout": self.concurrent_lock, "statement_timeout": 0}


@dataclass(frozen=True)
class Holder:
    """A session that holds what a migration waits for; 0 as process: a prepared transaction."""

    pid: int
    application: str | None
    role: str | None
    state: str | None
    seconds: float | None
    """Age of its transaction; None where our role may not see it."""


@contextmanager
def migrating(engine: Engine, limits: Limits | None = None) -> Iterator["WaitObserver"]:
    """Keep other migrators out, and limit and observe the waits of the engine's connections.

    Raises psycopg.Error where the lock was lost meanwhile.
    """
    bounds = limits or Limits()
    event.listen(engine, "begin", lambda connection: _limit(connection, bounds))
    with engine.connect() as guard:
        _lock(guard)
        observer = WaitObserver(guard, bounds)
        event.listen(engine, "begin", observer.follow)
        try:
            with observer.observing():
                yield observer
        finally:
            # Back in the pool, it would keep the lock.
            guard.invalidate()


def _lock(guard: Connection) -> None:
    """Keep other migrators out, however long it takes.

    A migrator that waits asks again and again, because the index that the first one builds
    concurrently waits for every statement that is under way.
    """
    while not _try_lock(guard):
        guard.rollback()
        time.sleep(WAIT_SECONDS)


def _try_lock(guard: Connection) -> bool:
    """Without parameters: a statement that has some keeps its snapshot until the next one."""
    session = driver(guard)
    if is_own_session(guard):
        return session.execute(_TRY_LOCK).fetchone() == (True,)
    guard.begin()
    session.execute("set local idle_in_transaction_session_timeout = 0")
    return session.execute(_TRY_LOCK_IN_TRANSACTION).fetchone() == (True,)


def _limit(connection: Connection, limits: Limits) -> None:
    """What runs outside a transaction, such as a concurrent index, has the limits of its session.

    The session of a pooler is shared with other clients and stays as it is; there the guard ends
    what waits too long.
    """
    if _is_in_transaction(connection):
        _set(connection, "local", limits.in_transactions)
    elif is_own_session(connection):
        _set(connection, "session", limits.outside)


def _set(connection: Connection, scope: str, limits: Mapping[str, float]) -> None:
    for name, seconds in limits.items():
        driver(connection).execute(f"set {scope} {name} = {round(seconds * 1000)}".encode())


def _is_in_transaction(connection: Connection) -> bool:
    return connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT"


class WaitObserver:
    """Looks at what a migration waits for, over the guard's connection, in a thread."""

    def __init__(self, guard: Connection, limits: Limits) -> None:
        self._session = driver(guard)
        self._limits = limits
        self._own = is_own_session(guard)
        self._pid = 0
        self._over = threading.Event()
        self._lost: psycopg.Error | None = None
        self._holders: tuple[Holder, ...] = ()
        self._seen_at = 0.0

    @property
    def holders(self) -> tuple[Holder, ...]:
        """Who holds up a statement, or did a moment ago; the oldest transaction first."""
        return self._holders if time.monotonic() - self._seen_at < RECENT_SECONDS else ()

    def follow(self, connection: Connection) -> None:
        """Note the process that serves a connection, where it is known for some time."""
        if not (_is_in_transaction(connection) or is_own_session(connection)):
            self._pid = 0
            return
        row = driver(connection).execute(b"select pg_backend_pid()").fetchone()
        assert row is not None
        self._pid = int(row[0])

    @contextmanager
    def observing(self) -> Iterator[None]:
        """Raises psycopg.Error where the guard's connection, and so the lock, was lost."""
        thread = threading.Thread(target=self._observe, name="migration-waits", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()
        if self._lost is not None:
            raise self._lost

    def _observe(self) -> None:
        bounds = (self._limits.lock, self._limits.concurrent_lock)
        pause = min(LOOK_SECONDS, *(bound / 5 for bound in bounds)) if self._own else max(bounds)
        while not self._over.wait(pause):
            try:
                self._look()
            except psycopg.Error as fault:
                self._lost = fault
                return

    def _look(self) -> None:
        rows = self._session.execute(_WAITS.format(pid=self._pid).encode()).fetchall()
        if self._own:
            # A build that waits for this very statement goes on in a moment.
            rows = [row for row in rows if row[2] != self._session.info.backend_pid]
        if not rows:
            return
        self._holders = tuple({row[2]: Holder(*row[2:]) for row in rows}.values())
        self._seen_at = time.monotonic()
        waiting, seconds = rows[0][0], rows[0][1] or 0
        if waiting != self._pid and seconds > self._limits.concurrent_lock + 1:
            self._session.execute(f"select pg_cancel_backend({waiting})".encode())
