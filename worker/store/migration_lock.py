"""The migration lock: one migrator at a time, limited waits, and a report of blocking sessions.

A waiting statement cannot query what blocks it, and after its timeout the answer is gone. So a
second connection, the guard, holds the migration lock and polls for blocking sessions.

A concurrent index build waits for every transaction that has a snapshot at certain moments of the
build, until that transaction ends. So the guard keeps none open: its session holds the lock, and
each poll is its own transaction. Behind a transaction pooler a session would not keep the lock;
there the guard's transaction holds it, and polls are rare.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import psycopg
import sqlalchemy as sa
from sqlalchemy import Engine, event

from worker.store.engine import get_driver_connection, is_own_session

ADVISORY_LOCK: Final = 0x7E4A_4D49
WAIT_SECONDS: Final = 0.5
POLL_SECONDS: Final = 0.2
HOLDERS_VALID_SECONDS: Final = 5.0
_TRY_LOCK: Final = f"select pg_try_advisory_lock({ADVISORY_LOCK})".encode()
_TRY_LOCK_IN_TRANSACTION: Final = f"select pg_try_advisory_xact_lock({ADVISORY_LOCK})".encode()

# A statement in a transaction is found by its process id. A statement outside a transaction may run
# in any session of a pooler, so it is found by its text.
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
class MigrationLimits:
    """How long the statements of a migration may wait and run, in seconds.

    In a transaction, a statement that waits for a lock blocks others behind it. Concurrent
    statements outside transactions block no one, so they may wait longer and run without limit.
    """

    lock: float = 4
    statement: float = 60
    concurrent_lock: float = 20

    @property
    def transaction_timeouts(self) -> dict[str, float]:
        return {"lock_timeout": self.lock, "statement_timeout": self.statement}

    @property
    def session_timeouts(self) -> dict[str, float]:
        return {"lock_timeout": self.concurrent_lock, "statement_timeout": 0}


@dataclass(frozen=True)
class LockHolder:
    """A session that blocks a migration; ``pid`` is 0 for a prepared transaction."""

    pid: int
    application: str | None
    role: str | None
    state: str | None
    seconds: float | None
    """Age of its transaction; None if the role may not see it."""


@contextmanager
def lock_migration(
    engine: Engine, limits: MigrationLimits | None = None
) -> Iterator["LockWaitObserver"]:
    """Hold the migration lock, and limit and observe the waits of the engine's connections.

    Raises psycopg.Error if the lock is lost meanwhile.
    """
    bounds = limits or MigrationLimits()
    event.listen(engine, "begin", lambda connection: _set_limits(connection, bounds))
    with engine.connect() as guard:
        _lock(guard)
        observer = LockWaitObserver(guard, bounds)
        event.listen(engine, "begin", observer.note_process)
        try:
            with observer.observe():
                yield observer
        finally:
            # Back in the pool, it would keep the lock.
            guard.invalidate()


def _lock(guard: sa.Connection) -> None:
    """Take the migration lock, without a time limit.

    It polls instead of blocking, because a concurrent index build of the first migrator would wait
    for the blocked statement.
    """
    while not _try_lock(guard):
        guard.rollback()
        time.sleep(WAIT_SECONDS)


def _try_lock(guard: sa.Connection) -> bool:
    """Try to take the lock. No parameters: with some, a statement keeps its snapshot open."""
    session = get_driver_connection(guard)
    if is_own_session(guard):
        return session.execute(_TRY_LOCK).fetchone() == (True,)
    guard.begin()
    session.execute("set local idle_in_transaction_session_timeout = 0")
    return session.execute(_TRY_LOCK_IN_TRANSACTION).fetchone() == (True,)


def _set_limits(db: sa.Connection, limits: MigrationLimits) -> None:
    """Set timeouts for the transaction, or for the session if there is no transaction.

    A pooler's session is shared with other clients and is not changed; there the guard cancels a
    statement that waits too long.
    """
    if _is_in_transaction(db):
        _set_timeouts(db, "local", limits.transaction_timeouts)
    elif is_own_session(db):
        _set_timeouts(db, "session", limits.session_timeouts)


def _set_timeouts(db: sa.Connection, scope: str, limits: Mapping[str, float]) -> None:
    for name, seconds in limits.items():
        get_driver_connection(db).execute(f"set {scope} {name} = {round(seconds * 1000)}".encode())


def _is_in_transaction(db: sa.Connection) -> bool:
    return db.get_execution_options().get("isolation_level") != "AUTOCOMMIT"


class LockWaitObserver:
    """Polls, in a thread, for sessions that block a migration, on the guard's connection."""

    def __init__(self, guard: sa.Connection, limits: MigrationLimits) -> None:
        self._session = get_driver_connection(guard)
        self._limits = limits
        self._own = is_own_session(guard)
        self._pid = 0
        self._over = threading.Event()
        self._lost: psycopg.Error | None = None
        self._holders: tuple[LockHolder, ...] = ()
        self._seen_at = 0.0

    @property
    def holders(self) -> tuple[LockHolder, ...]:
        """Sessions that block a statement, or did a moment ago; the oldest transaction first."""
        return self._holders if time.monotonic() - self._seen_at < HOLDERS_VALID_SECONDS else ()

    def note_process(self, db: sa.Connection) -> None:
        """Record the backend pid of a connection, unless a pooler may change it."""
        if not (_is_in_transaction(db) or is_own_session(db)):
            self._pid = 0
            return
        row = get_driver_connection(db).execute(b"select pg_backend_pid()").fetchone()
        assert row is not None
        self._pid = int(row[0])

    @contextmanager
    def observe(self) -> Iterator[None]:
        """Poll meanwhile. Raises psycopg.Error if the guard's connection and its lock are lost."""
        thread = threading.Thread(target=self._run, name="migration-waits", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()
        if self._lost is not None:
            raise self._lost

    def _run(self) -> None:
        bounds = (self._limits.lock, self._limits.concurrent_lock)
        pause = min(POLL_SECONDS, *(bound / 5 for bound in bounds)) if self._own else max(bounds)
        while not self._over.wait(pause):
            try:
                self._poll()
            except psycopg.Error as error:
                self._lost = error
                return

    def _poll(self) -> None:
        rows = self._session.execute(_WAITS.format(pid=self._pid).encode()).fetchall()
        if self._own:
            # A build that waits only for this statement continues at once.
            rows = [row for row in rows if row[2] != self._session.info.backend_pid]
        if not rows:
            return
        self._holders = tuple({row[2]: LockHolder(*row[2:]) for row in rows}.values())
        self._seen_at = time.monotonic()
        waiting, seconds = rows[0][0], rows[0][1] or 0
        if waiting != self._pid and seconds > self._limits.concurrent_lock + 1:
            self._session.execute(f"select pg_cancel_backend({waiting})".encode())
