"""Invariants of the database while no slice is running."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import text

from tests.soak.processes import is_alive
from tests.support.mirror import verify_connection
from worker.core.process.identity import parse_identity
from worker.store.engine import Database
from worker.tasks.dispatch import CLAIM_GRACE_SECONDS

MAX_MEGABYTES: Final = 350.0
"""What a process may have, however long it runs: Celery replaces a pool process at 400."""

TAKE_UP_SECONDS: Final = 30.0
"""Seconds within which a connection that is due is claimed and its slice begins."""

_RUNS = text("""
    select r.id, r.connection_id, c.status, r.slices,
           extract(epoch from c.due_at - clock_timestamp())::float8 as due_in
      from sync.runs r
      join sync.connections c on c.id = r.connection_id
      left join sync.leases l on l.connection_id = r.connection_id
     where r.state = 'running' and (l.expires_at is null or l.expires_at < clock_timestamp())
     order by r.id
""")
_LEASES = text("""
    select connection_id, holder, extract(epoch from clock_timestamp() - expires_at) as past
      from sync.leases where expires_at is not null
""")
_SEQUENCES = text("""
    select e.connection_id, min(e.seq) as first, max(e.seq) as last, count(*) as number,
           count(distinct e.seq) as different, count(distinct e.event_id) as ids, l.event_seq
      from events.change_events e join sync.leases l on l.connection_id = e.connection_id
     group by e.connection_id, l.event_seq order by e.connection_id
""")


def fetch_rows(database: Database, statement: Any, **values: Any) -> list[dict[str, Any]]:
    with database.open_transaction() as db:
        return [dict(row) for row in db.execute(statement, values).mappings()]


def find_broken_histories(database: Database) -> Iterator[str]:
    """Events that do not tell the rows, of any connection, retired ones included."""
    for connection in fetch_rows(database, text("select id from sync.connections order by id")):
        verification = verify_connection(database, connection["id"])
        for problem in verification.problems:
            yield f"connection {connection['id']}: {problem}"
        if verification.problem_count > len(verification.problems):
            yield f"connection {connection['id']}: {verification.problem_count} problems in all"


def find_broken_sequences(database: Database) -> Iterator[str]:
    """Numbers of events that are not 1, 2, 3 ... up to the counter."""
    for row in fetch_rows(database, _SEQUENCES):
        numbers = (row["number"], row["different"], row["ids"], row["last"], row["event_seq"])
        if row["first"] != 1 or len(set(numbers)) != 1:
            yield (
                f"connection {row['connection_id']}: {row['number']} events with "
                f"{row['different']} numbers and {row['ids']} ids, from {row['first']} to "
                f"{row['last']}, while the counter stands at {row['event_seq']}"
            )


@dataclass(frozen=True)
class IdleRun:
    """A run that says that it goes on while nobody is at work.

    Between two slices that is how it has to be: its connection is due, or it was claimed and the
    message is on its way, or it waits for Nango's budget. All of these end by when the connection
    is due, and no claim or wait is longer than a claim may be.
    """

    id: int
    connection_id: int
    status: str
    slices: int
    due_in: float | None
    """Seconds until its connection is due; below 0 where it is already."""

    @property
    def is_stranded(self) -> bool:
        """Whether nobody will take it up: never, or not within a claim's time."""
        served = self.status in ("active", "broken")
        return not served or self.due_in is None or self.due_in > CLAIM_GRACE_SECONDS + 1

    def is_overdue(self, now: "IdleRun", seconds: float) -> bool:
        """Whether it should have gone on, ``seconds`` after it was seen, and has not: no slice
        has begun and ended since."""
        wait = max(self.due_in or 0.0, 0.0)
        return now.slices == self.slices and seconds > wait + TAKE_UP_SECONDS

    def __str__(self) -> str:
        due = "never due" if self.due_in is None else f"due in {self.due_in:.0f} s"
        return (
            f"run {self.id} of connection {self.connection_id} ({self.status}, {due}) is in state "
            f"running after {self.slices} slices, and nobody holds the lease"
        )


def find_idle_runs(database: Database) -> dict[int, IdleRun]:
    """The runs that nobody is at work at, by id."""
    return {row["id"]: IdleRun(**row) for row in fetch_rows(database, _RUNS)}


def find_orphaned_leases(database: Database) -> Iterator[str]:
    """Leases of processes that are gone, and leases that ended and were not cleared."""
    for row in fetch_rows(database, _LEASES):
        holder = parse_identity(str(row["holder"] or ""))
        if holder is not None and is_alive(holder.pid):
            continue
        yield (
            f"the lease of connection {row['connection_id']} is held by {row['holder']}, "
            f"which does not run; it ended {row['past']:.0f} s ago"
        )


def find_memory_excess(peaks: dict[str, float]) -> Iterator[str]:
    """Processes that had more memory than they may."""
    for kind, size in sorted(peaks.items()):
        if size > MAX_MEGABYTES:
            yield f"{kind} had {size:.0f} MB, more than {MAX_MEGABYTES:.0f}"
