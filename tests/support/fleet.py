"""A fleet of thousands of connections, written straight into the tables."""

from sqlalchemy import text

from models.resources import STREAMED
from worker.store.engine import Database

_CONNECTIONS = text("""
    insert into sync.connections
           (nango_connection_id, provider_config_key, provider, tenant_id, display_name, status,
            due_at, created_at)
    select md5(n::text)::uuid::text, 'entra', 'microsoft', md5('t' || n)::uuid,
           'Customer ' || n, 'active', clock_timestamp() + interval '2 minutes',
           clock_timestamp() - interval '30 days'
      from generate_series(1, :number) as n
""")
_STREAMS = text("""
    insert into sync.streams
           (connection_id, resource, phase, first_complete_at, full_walk_at, fresh_at, due_at,
            interval_seconds)
    select c.id, r.name, 'delta', c.created_at, clock_timestamp() - interval '1 day',
           clock_timestamp() - interval '1 minute', clock_timestamp() + interval '2 minutes', 300
      from sync.connections c cross join unnest(cast(:names as text[])) as r (name)
""")
_LEASES = text("insert into sync.leases (connection_id) select id from sync.connections")
_RUNS = text("""
    insert into sync.runs (connection_id, trigger, state, started_at, finished_at, resources)
    select c.id, 'scheduled', 'succeeded', clock_timestamp() - n * interval '5 minutes',
           clock_timestamp() - n * interval '5 minutes', '{}'
      from sync.connections c cross join generate_series(1, :runs) as n order by n desc, c.id
""")
_SERVICE = text("""
    insert into sync.service_state (name, updated_at) values ('tick', clock_timestamp())
        on conflict (name) do update set updated_at = excluded.updated_at
""")
_WORKER = text("""
    insert into sync.workers (name, queues, processes, seen_at)
    values ('worker@host:1:1:x', array['manual', 'scheduled', 'backfill', 'maintenance'],
            array['host:2:1:x'], clock_timestamp())
        on conflict (name) do update set seen_at = excluded.seen_at
""")


def fill_fleet(database: Database, number: int, *, runs: int = 3) -> None:
    """Write so many healthy connections, with streams and ended runs, and a live service."""
    with database.open_transaction() as db:
        db.execute(_CONNECTIONS, {"number": number})
        db.execute(_STREAMS, {"names": [one.name for one in STREAMED]})
        db.execute(_LEASES)
        db.execute(_RUNS, {"runs": runs})
    revive_service(database)
    with database.open_transaction() as db:
        db.execute(text("analyze sync.connections, sync.streams, sync.runs, sync.leases"))


def revive_service(database: Database) -> None:
    """Let the dispatcher and one worker for all queues report now."""
    with database.open_transaction() as db:
        db.execute(_SERVICE)
        db.execute(_WORKER)
