"""Invariants of connections, runs and streams while no slice is running."""

from collections.abc import Iterator

import sqlalchemy as sa
from sqlalchemy import text

from worker.store.engine import Database
from worker.store.state.streams import IS_NOT_LICENSED

_CONTRADICTIONS = {
    "a connection that is not in use has a run under way": """
        select c.id from sync.connections c join sync.runs r on r.connection_id = c.id
         where c.status not in ('active', 'broken') and r.state = 'running'
    """,
    "a connection in use is never due": """
        select id from sync.connections where status in ('active', 'broken') and due_at is null
    """,
    "a run has ended without a time, or a time without an end": """
        select id from sync.runs where (state = 'running') <> (finished_at is null)
    """,
    "a run failed or waits without a reason": """
        select id from sync.runs where state in ('failed', 'partial', 'held') and error is null
    """,
    "a connection is broken and its newest run succeeded": """
        select c.id from sync.connections c join lateral (
            select state from sync.runs where connection_id = c.id order by id desc limit 1
        ) newest on true
         where c.status = 'broken' and newest.state = 'succeeded'
    """,
    "a run succeeded over a stream that is not up to date": f"""
        select s.resource from sync.streams s join lateral (
            select state from sync.runs where connection_id = s.connection_id
             order by id desc limit 1
        ) newest on newest.state = 'succeeded'
         where (s.out_of_budget or s.phase in ('listing', 'sweeping', 'refused', 'held')
                or s.next_link is not null)
           and not coalesce({IS_NOT_LICENSED}, false)
    """,
    "a run that read nothing has begun a walk": """
        select s.resource from sync.streams s join lateral (
            select state, pages, started_at from sync.runs where connection_id = s.connection_id
             order by id desc limit 1
        ) newest on newest.state <> 'running' and newest.pages = 0
         where s.phase = 'listing' and s.page_no = 0 and s.walk_started_at >= newest.started_at
    """,
}


def find_contradictions(db: sa.Connection) -> Iterator[str]:
    """What the tables say that is not so."""
    for sentence, statement in _CONTRADICTIONS.items():
        for found in db.execute(text(statement)).scalars():
            yield f"{sentence}: {found}"


def assert_consistent(database: Database) -> None:
    """Every state in the tables is true, and every lease was given back."""
    with database.open_transaction() as db:
        said = list(find_contradictions(db))
        assert not said, said
        held = "select connection_id from sync.leases where expires_at is not null"
        kept = list(db.execute(text(held)).scalars())
        assert not kept, f"leases that were not given back: {kept}"
