"""A fleet of thousands of connections, written straight into the tables."""

from sqlalchemy import text

from models.resources import STREAMED
from worker.store.engine import Database
from worker.store.state.streams import Stream
from worker.sync.policy import Policy

_NAMES = ("Alpine", "Bluewater", "Cedar", "Delphi", "Evergreen", "Fulmar", "Granite", "Harbour")
_KINDS = ("Bank", "Clinics", "Foods", "Logistics", "Museum", "Rail", "Schools", "Textiles")
_CONNECTIONS = text("""
    insert into sync.connections
           (nango_connection_id, provider_config_key, provider, tenant_id, display_name, status,
            due_at, created_at)
    select md5(n::text)::uuid::text, 'entra', 'microsoft', md5('t' || n)::uuid,
           (cast(:names as text[]))[1 + n % 8] || ' ' || (cast(:kinds as text[]))[1 + n / 8 % 8]
           || ' ' || n,
           'active', clock_timestamp() + (10 + n % 110) * interval '1 second',
           clock_timestamp() - (5 + n % 300) * interval '1 day'
      from generate_series(1, :number) as n
""")
_STREAMS = text("""
    insert into sync.streams
           (connection_id, resource, phase, first_complete_at, full_walk_at, fresh_at, due_at,
            interval_seconds, drift)
    select c.id, r.name, 'delta', c.created_at, clock_timestamp() - interval '1 day',
           clock_timestamp() - a.age, clock_timestamp() - a.age + r.seconds * interval '1 second',
           r.seconds, case when c.id % 2 = 0 then 'null'::jsonb
                           else jsonb_build_object(r.name, jsonb_build_object('deleted', 2)) end
      from sync.connections c
     cross join unnest(cast(:names as text[]), cast(:intervals as float8[])) as r (name, seconds)
     cross join lateral (select c.id * 37 % 90 / 100.0 * r.seconds * interval '1 second') as a (age)
     where c.id > :last
""")
_LEASES = text(
    "insert into sync.leases (connection_id) select id from sync.connections where id > :last"
)
_RUNS = text("""
    insert into sync.runs
           (connection_id, trigger, state, started_at, finished_at, slices, calls, objects,
            resources)
    select c.id, 'scheduled', 'succeeded', m.at, m.at + c.id % 7 * interval '1 second', 1, 1,
           c.id % 5, '{}'
      from sync.connections c cross join generate_series(1, :runs) as n
     cross join lateral (select clock_timestamp() - n * interval '5 minutes') as m (at)
     where c.id > :last order by n desc, c.id
""")
_SERVICE = text("""
    insert into sync.service_state (name, value, updated_at)
    values ('tick', jsonb_build_object('sent_at', extract(epoch from clock_timestamp())),
            clock_timestamp())
        on conflict (name) do update
            set value = excluded.value, updated_at = excluded.updated_at
""")
_WORKER = text("""
    insert into sync.workers (name, queues, processes, seen_at)
    values ('worker@host:1:1:x', array['manual', 'scheduled', 'backfill', 'maintenance'],
            array['host:2:1:x'], clock_timestamp())
        on conflict (name) do update set seen_at = excluded.seen_at
""")


def fill_fleet(database: Database, number: int, *, runs: int = 3) -> None:
    """Write so many healthy connections, with streams and ended runs, and a live service.

    Connections that exist already stay as they are.
    """
    policy = Policy()
    with database.open_transaction() as db:
        last = db.execute(text("select coalesce(max(id), 0) from sync.connections")).scalar_one()
        db.execute(_CONNECTIONS, {"number": number, "names": list(_NAMES), "kinds": list(_KINDS)})
        streams = {
            "names": [one.name for one in STREAMED],
            "intervals": [policy.get_interval(Stream(resource=one)) for one in STREAMED],
        }
        db.execute(_STREAMS, {"last": last, **streams})
        db.execute(_LEASES, {"last": last})
        db.execute(_RUNS, {"last": last, "runs": runs})
    revive_service(database)
    with database.open_transaction() as db:
        db.execute(text("analyze sync.connections, sync.streams, sync.runs, sync.leases"))


def revive_service(database: Database) -> None:
    """Let the dispatcher and one worker for all queues report now."""
    with database.open_transaction() as db:
        db.execute(_SERVICE)
        db.execute(_WORKER)
