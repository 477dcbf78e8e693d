"""Leases: one writer per connection, with a fencing token, on the database's clock.

Every write transaction first locks the lease row by renewing it under its own token. So a process
that was suspended past its lease cannot write when it wakes up. The same row counts the change
events: commits of a connection are serialized, and so are their sequence numbers.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy import text

from worker.core.counts import Counts
from worker.core.errors import LeaseHeld, LeaseLost
from worker.core.process.identity import identify_this_process
from worker.store.counters import add_to_counters
from worker.store.engine import Database, get_driver_connection

_NOW = text("select clock_timestamp()")
_ENSURE = text("insert into sync.leases (connection_id) values (:id) on conflict do nothing")
_TAKE = text("""
    update sync.leases
       set token = token + 1, holder = :holder,
           expires_at = clock_timestamp() + make_interval(secs => :seconds)
     where connection_id = :id and (expires_at is null or expires_at < clock_timestamp())
 returning token, event_seq, greatest(clock_timestamp(), last_event_at) as moment
""")
_SEIZE = text("""
    update sync.leases set token = token + 1, holder = null, expires_at = null
     where connection_id = :id
 returning token
""")
_HOLDER = text("""
    select holder, extract(epoch from expires_at - clock_timestamp()) as seconds
      from sync.leases where connection_id = :id
""")
_LOCK = text("""
    select event_seq, greatest(clock_timestamp(), last_event_at) as moment
      from sync.leases where connection_id = :id for update
""")
_RENEW_AND_LOCK: Final = """
    update sync.leases
       set last_event_at = case when event_seq > 0
                                then greatest(clock_timestamp(), last_event_at) end,
           expires_at = case when expires_at is null then null
                             else clock_timestamp() + make_interval(secs => %(seconds)s) end
     where connection_id = %(id)s and token = %(token)s
 returning event_seq, coalesce(last_event_at, clock_timestamp()) as moment
"""
"""For the driver, as ``_LOOK``: each transaction of a slice begins with one of them."""
_LOOK: Final = """
    select event_seq, greatest(clock_timestamp(), last_event_at) as moment
      from sync.leases where connection_id = %(id)s and token = %(token)s
"""
_COMMIT = text("""
    update sync.leases
       set event_seq = :seq,
           last_event_at = case when :seq > 0 then :moment end,
           expires_at = case when expires_at is null then null
                             else clock_timestamp() + make_interval(secs => :seconds) end
     where connection_id = :id
""")
_RENEW = text("""
    update sync.leases set expires_at = clock_timestamp() + make_interval(secs => :seconds)
     where connection_id = (select connection_id from sync.leases
                             where connection_id = :id and token = :token
                               for update skip locked)
""")
_IS_OURS = text("select token = :token from sync.leases where connection_id = :id")
_RELEASE = text("""
    update sync.leases set expires_at = null, holder = null
     where connection_id = :id and token = :token
""")

_DUE = text("""
    update sync.connections set due_at = least(due_at, clock_timestamp())
     where id = :id and status in ('active', 'broken')
""")


@dataclass(frozen=True)
class Lease:
    """The right to write one connection, until ``seconds`` after the last renewal."""

    connection_id: int
    token: int
    seconds: float


@dataclass
class Transaction:
    """A write transaction that holds the lease row.

    ``moment`` is the database's time. Once there is an event it never decreases, even if the clock
    is set back, so that rows stored without an event sort correctly among the events.
    ``seq`` is the last sequence number assigned. ``counts`` are stored before the commit.
    ``before_commit`` has what is to be done once, at its end, whatever changes it makes: by name.
    """

    db: sa.Connection
    connection_id: int
    moment: datetime
    seq: int
    counts: Counts = field(default_factory=Counts)
    before_commit: "dict[str, Callable[[Transaction], None]]" = field(default_factory=dict)

    def finish(self) -> None:
        """Do what was left for the end of the transaction; a commit calls it."""
        while self.before_commit:
            _, action = self.before_commit.popitem()
            action(self)

    def read_clock(self) -> datetime:
        """Return the database's current time, for due times: it may be behind ``moment``."""
        now: datetime = self.db.execute(_NOW).scalar_one()
        return now


def get_holder_name() -> str:
    """Return this process's name as a lease holder."""
    return str(identify_this_process())


def take_lease(
    db: sa.Connection, connection_id: int, seconds: float
) -> tuple[Lease, "Transaction"]:
    """Take the lease of a connection, and return it with its first write transaction.

    The lease is taken only once the transaction commits. Raises LeaseHeld.
    """
    values = {"id": connection_id, "seconds": seconds, "holder": get_holder_name()}
    taken = db.execute(_TAKE, values).one_or_none()
    if taken is None:
        db.execute(_ENSURE, values)
        taken = db.execute(_TAKE, values).one_or_none()
    if taken is None:
        held = db.execute(_HOLDER, values).one()
        raise LeaseHeld(
            f"{held.holder} is syncing it; its lease ends in {max(0, held.seconds or 0):.0f} s",
            after=max(0.0, float(held.seconds or 0)),
        )
    lease = Lease(connection_id, int(taken.token), seconds)
    return lease, Transaction(db, connection_id, taken.moment, taken.event_seq)


def renew_lease(database: Database, lease: Lease) -> None:
    """Renew the lease. Raises LeaseLost if another process has taken it.

    A page that is being written holds the row; its commit renews the lease as well.
    """
    values = {"id": lease.connection_id, "token": lease.token, "seconds": lease.seconds}
    with database.open_transaction() as db:
        if db.execute(_RENEW, values).rowcount == 1:
            return
        if not db.execute(_IS_OURS, values).scalar():
            raise LeaseLost("the lease was taken over", connection=str(lease.connection_id))


def return_lease(database: Database, lease: Lease) -> None:
    """Release the lease before the work is done, and make the connection due at once."""
    with database.open_transaction() as db:
        values = {"id": lease.connection_id, "token": lease.token}
        if db.execute(_RELEASE, values).rowcount:
            db.execute(_DUE, values)


def release_lease(database: Database, lease: Lease) -> None:
    """Release the lease; does nothing if another process has taken it."""
    with database.open_transaction() as db:
        release_lease_in(db, lease)


def release_lease_in(db: sa.Connection, lease: Lease) -> None:
    """Release the lease when this transaction commits."""
    db.execute(_RELEASE, {"id": lease.connection_id, "token": lease.token})


@contextmanager
def open_write_transaction(database: Database, lease: Lease) -> Iterator[Transaction]:
    """Open a write transaction under the lease, which renews the lease at its start.

    Raises LeaseLost, with nothing written, if the token has changed.
    """
    with database.open_transaction() as db:
        transaction = _load_transaction(db, lease, _RENEW_AND_LOCK)
        before = transaction.seq
        yield transaction
        transaction.finish()
        if transaction.seq > before:
            _save_sequence(transaction, lease.seconds)
        add_to_counters(db, transaction.counts.take())


@contextmanager
def open_read_transaction(database: Database, lease: Lease) -> Iterator[Transaction]:
    """Open a transaction to read what only the lease holder changes. Raises LeaseLost."""
    with database.open_transaction() as db:
        yield _load_transaction(db, lease, _LOOK)


def _load_transaction(db: sa.Connection, lease: Lease, statement: str) -> Transaction:
    values = {"id": lease.connection_id, "token": lease.token, "seconds": lease.seconds}
    with get_driver_connection(db).cursor() as cursor:
        row = cursor.execute(statement, values).fetchone()
    if row is None:
        raise LeaseLost("the lease was taken over", connection=str(lease.connection_id))
    seq, moment = row
    return Transaction(db, lease.connection_id, moment, seq)


@contextmanager
def block_writers(
    database: Database, connection_id: int, *, wait_seconds: int
) -> Iterator[sa.Connection]:
    """Open a transaction during which no slice can write the connection.

    The token stays, so a slice that waits for the lock continues afterwards. A connection without
    a lease row has no slice. Raises RetryLater if the lock is not free within ``wait_seconds``.
    """
    with database.open_transaction() as db:
        db.execute(text(f"set local lock_timeout = '{wait_seconds}s'"))
        db.execute(_LOCK, {"id": connection_id})
        yield db


@contextmanager
def interrupt_writer(database: Database, connection_id: int) -> Iterator[Transaction]:
    """Open a write transaction from outside a run (retire, approve, forget).

    It takes the lock and increments the token, so a running slice is fenced and restarts from what
    is committed.
    """
    with database.open_transaction() as db, interrupt_writer_in(db, connection_id) as transaction:
        yield transaction


@contextmanager
def interrupt_writer_in(
    db: sa.Connection, connection_id: int, counts: Counts | None = None
) -> Iterator[Transaction]:
    """Do as ``interrupt_writer`` for another connection, inside an open transaction.

    The caller stores ``counts`` with its own; without them, they are stored at the end.
    """
    db.execute(_ENSURE, {"id": connection_id})
    row = db.execute(_LOCK, {"id": connection_id}).one()
    transaction = Transaction(db, connection_id, row.moment, row.event_seq, counts or Counts())
    db.execute(_SEIZE, {"id": connection_id})
    yield transaction
    transaction.finish()
    _save_sequence(transaction, 0.0)
    if counts is None:
        add_to_counters(db, transaction.counts.take())


def _save_sequence(transaction: Transaction, seconds: float) -> None:
    transaction.db.execute(
        _COMMIT,
        {
            "id": transaction.connection_id,
            "seq": transaction.seq,
            "moment": transaction.moment,
            "seconds": seconds,
        },
    )
