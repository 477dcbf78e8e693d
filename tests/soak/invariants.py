"""What must hold of the database whenever nothing is under way."""

import socket
from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy import text

from tests.soak.processes import is_alive
from tests.support.mirror import checked
from worker.store.engine import Database

MEGABYTES: Final = 350.0
"""What a process may have, however long it runs: Celery replaces a pool process at 400."""

_RUNS = text("""
    select r.connection_id, r.id, c.status, r.slices from sync.runs r
      join sync.connections c on c.id = r.connection_id
      left join sync.leases l on l.connection_id = r.connection_id
     where r.state = 'running' and (l.expires_at is null or l.expires_at < clock_timestamp())
       and (c.due_at is null or c.due_at > clock_timestamp())
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


def rows(database: Database, statement: Any, **values: Any) -> list[dict[str, Any]]:
    with database.begin() as connection:
        return [dict(row) for row in connection.execute(statement, values).mappings()]


def broken_histories(database: Database) -> Iterator[str]:
    """Events that do not tell the rows, of any connection, retired ones included."""
    for known in rows(database, text("select id from sync.connections order by id")):
        found = checked(database, known["id"])
        for problem in found.problems:
            yield f"connection {known['id']}: {problem}"
        if found.problem_count > len(found.problems):
            yield f"connection {known['id']}: {found.problem_count} problems in all"


def broken_sequences(database: Database) -> Iterator[str]:
    """Numbers of events that are not 1, 2, 3 ... up to the counter."""
    for row in rows(database, _SEQUENCES):
        numbers = (row["number"], row["different"], row["ids"], row["last"], row["event_seq"])
        if row["first"] != 1 or len(set(numbers)) != 1:
            yield (
                f"connection {row['connection_id']}: {row['number']} events with "
                f"{row['different']} numbers and {row['ids']} ids, from {row['first']} to "
                f"{row['last']}, while the counter stands at {row['event_seq']}"
            )


def stuck_runs(database: Database) -> Iterator[str]:
    """Runs that say that they go on, while nobody is at work and nobody is about to be."""
    for row in rows(database, _RUNS):
        yield (
            f"run {row['id']} of connection {row['connection_id']} ({row['status']}) is in state "
            f"running after {row['slices']} slices; nobody holds the lease and it is not due"
        )


def orphaned_leases(database: Database) -> Iterator[str]:
    """Leases of processes that are gone, and leases that ended and were not cleared."""
    for row in rows(database, _LEASES):
        host, _, pid = str(row["holder"] or "").rpartition(":")
        if host == socket.gethostname() and is_alive(int(pid)):
            continue
        yield (
            f"the lease of connection {row['connection_id']} is held by {row['holder']}, "
            f"which does not run; it ended {row['past']:.0f} s ago"
        )


def swollen(peaks: dict[str, float]) -> Iterator[str]:
    """Processes that had more memory than they may."""
    for kind, size in sorted(peaks.items()):
        if size > MEGABYTES:
            yield f"{kind} had {size:.0f} MB, more than {MEGABYTES:.0f}"
