"""Claims of due connections: which ones, on which queue, and how many at a time."""

from typing import Final

import sqlalchemy as sa
from sqlalchemy import text

from models.resources import STREAMED
from models.run import RunTrigger
from worker.store.service.workers import REPORT_VALID_SECONDS

_END_SILENT_COPIES = text("""
    select count(pg_terminate_backend(pid)) from pg_stat_activity
     where datname = current_database() and usename = current_user
       and application_name = current_setting('application_name')
       and state = 'active' and wait_event = 'ClientRead'
       and state_change < clock_timestamp() - make_interval(secs => :seconds)
""")
SILENT_COPY_SECONDS = 120.0
"""How long a COPY may wait for its client. No timeout of Postgres ends a COPY with a silent client:
a suspended process would keep its connection locked forever."""

_FREE_LAPSED_LEASES = text("""
    with unheld as (
        select connection_id from sync.leases where expires_at < clock_timestamp()
           for update skip locked),
    lapsed as (
        update sync.leases l set expires_at = null, holder = null
          from unheld where l.connection_id = unheld.connection_id returning l.connection_id)
    update sync.connections c set due_at = least(c.due_at, clock_timestamp())
      from lapsed where c.id = lapsed.connection_id and c.status in ('active', 'broken')
""")
_STREAMED_NAMES = [resource.name for resource in STREAMED]

IS_SETTLED: Final = """
    (s.first_complete_at is not null or s.first_due_at is not null or s.off_at is not null
     or s.due_at > clock_timestamp()
     or s.phase not in ('ready', 'listing', 'sweeping'))
"""
"""Condition: stream ``s`` does not keep its connection on the queue of first loads.

It has been complete, was added to a connection that is mirrored already, is off, is not due, is
refused, or follows a cursor without ever having been complete.
"""
_IS_FIRST_LOAD = f"""
    (select count(*) from sync.streams s
      where s.connection_id = c.id and s.resource = any(:streamed)
        and {IS_SETTLED}) < cardinality(cast(:streamed as text[]))
"""
"""Condition: some stream's first load can continue now."""

IS_SYNCED: Final = "c.status in ('active', 'broken') and c.operator_paused_at is null"
"""Condition: the connection is in use, and no operator has paused it."""

_DUE = f"""
    due as (
        select c.id, case when c.requested_at is not null then 'manual'
                          when r.trigger = 'backfill' or {_IS_FIRST_LOAD} then 'backfill'
                          else 'scheduled' end as queue,
               greatest(c.due_at, c.requested_at) as since
          from sync.connections c
          left join sync.leases l on l.connection_id = c.id
          left join sync.runs r on r.connection_id = c.id and r.state = 'running'
         where {IS_SYNCED} and c.due_at <= clock_timestamp()
           and (l.expires_at is null or l.expires_at < clock_timestamp()))
"""
_FREE_SLOTS = f"""
    first_loads as (
        select least(:first_loads, (
                   select sum(case when queues && cast(:prompt as text[])
                                   then greatest(cardinality(processes) - 1, 1)
                                   else cardinality(processes) end)
                     from sync.workers
                    where 'backfill' = any(queues)
                      and seen_at > clock_timestamp() - make_interval(secs => :alive)))
               - (select count(*) from sync.leases l
                    join sync.connections c on c.id = l.connection_id
                    join sync.runs r on r.connection_id = c.id and r.state = 'running'
                   where l.expires_at > clock_timestamp()
                     and (r.trigger = 'backfill' or c.requested_at is null and {_IS_FIRST_LOAD}))
               - (select count(*) from sync.connections c
                    left join sync.leases l on l.connection_id = c.id
                    left join sync.runs r on r.connection_id = c.id and r.state = 'running'
                   where {IS_SYNCED} and c.requested_at is null
                     and c.waiting_since is not null and c.due_at > clock_timestamp()
                     and coalesce(l.expires_at < clock_timestamp(), true)
                     and (r.trigger = 'backfill' or {_IS_FIRST_LOAD}))
               as free)
"""
"""How many more first loads may be claimed: one for each process that serves them, but never all
processes of a worker that also serves other slices. First loads that are running, or claimed and
not started, are subtracted."""

_CLAIM = text(f"""
    with {_DUE}, {_FREE_SLOTS},
    ranked as (
        select id, queue, since,
               row_number() over (partition by queue order by since, id) as place
          from due),
    chosen as (
        select id, queue from ranked, first_loads
         where queue = 'manual'
            or queue = 'scheduled' and place <= :by_clock
            or queue = 'backfill' and place <= free
         order by queue = 'manual' desc, queue = 'backfill' desc, since limit :limit),
    claimed as (
        select c.id, chosen.queue from sync.connections c join chosen on chosen.id = c.id
         where {IS_SYNCED} and c.due_at <= clock_timestamp()
           for update of c skip locked)
    update sync.connections c
       set due_at = clock_timestamp() + make_interval(secs => :grace),
           waiting_since = least(c.waiting_since, c.due_at)
      from claimed where claimed.id = c.id
 returning c.id, claimed.queue
""")
_CLAIM_FIRST_LOADS = text(f"""
    with {_FREE_SLOTS}, chosen as (
        select c.id from sync.connections c
          left join sync.leases l on l.connection_id = c.id
          left join sync.runs r on r.connection_id = c.id and r.state = 'running'
         where {IS_SYNCED} and c.due_at <= statement_timestamp()
           and c.requested_at is null
           and coalesce(l.expires_at < clock_timestamp(), true)
           and (r.trigger = 'backfill' or {_IS_FIRST_LOAD})
         order by c.due_at, c.id
         limit (select greatest(free, 0) from first_loads)
           for update of c skip locked)
    update sync.connections c
       set due_at = clock_timestamp() + make_interval(secs => :grace),
           waiting_since = least(c.waiting_since, c.due_at)
      from chosen where chosen.id = c.id
 returning c.id
""")
_LOCK_FIRST_LOADS = text("select pg_advisory_xact_lock(hashtextextended('claim first loads', 0))")
_AWAITED = text(f"""
    select exists (
        select from sync.connections c
          left join sync.leases l on l.connection_id = c.id
          left join sync.runs r on r.connection_id = c.id and r.state = 'running'
         where c.waiting_since < clock_timestamp() - make_interval(secs => :patience)
           and c.due_at > clock_timestamp() and {IS_SYNCED}
           and (l.expires_at is null or l.expires_at < clock_timestamp())
           and (c.requested_at is not null
                or not (coalesce(r.trigger = 'backfill', false) or {_IS_FIRST_LOAD})))
""")
_WAITING = text(f"with {_DUE} select count(*) from due where queue = 'scheduled'")


def claim_due(
    db: sa.Connection,
    *,
    limit: int,
    first_loads: int,
    claim_seconds: float,
    scheduled_limit: int | None = None,
) -> list[tuple[int, RunTrigger]]:
    """Claim due connections, and return their ids and queues, the most urgent first.

    A connection counts as a first load until all of its streams have been complete once, so that
    first loads stay within their slots and their share of Nango's budget; streams that were added
    later do not count, so that what is mirrored already stays fresh. Claims at most ``limit``
    connections, of which at most ``scheduled_limit`` are scheduled: Nango's budget has room for
    those. Each queue is ranked separately, so that a thousand first loads do not block others.
    Connections with an expired lease are due as well: their worker died. A claim lasts
    ``claim_seconds``: if its message is lost, the connection is due again then.
    """
    db.execute(_END_SILENT_COPIES, {"seconds": SILENT_COPY_SECONDS})
    db.execute(_FREE_LAPSED_LEASES)
    db.execute(_LOCK_FIRST_LOADS)
    values = {
        **_build_values(first_loads, claim_seconds),
        "limit": limit,
        "by_clock": limit if scheduled_limit is None else scheduled_limit,
    }
    order = list(RunTrigger)
    claimed = [(row.id, RunTrigger(row.queue)) for row in db.execute(_CLAIM, values)]
    return sorted(claimed, key=lambda item: order.index(item[1]))


def claim_first_loads(db: sa.Connection, *, first_loads: int, claim_seconds: float) -> list[int]:
    """Claim as many first loads as there are free slots, those that wait longest first.

    A lock lets only one process count the slots at a time, so that no slot is filled twice.
    """
    db.execute(_LOCK_FIRST_LOADS)
    found = db.execute(_CLAIM_FIRST_LOADS, _build_values(first_loads, claim_seconds))
    return sorted(found.scalars())


def is_slice_waiting(db: sa.Connection, *, seconds: float) -> bool:
    """Whether a slice other than a first load was sent and not started for that many seconds.

    Connections that are due but not sent wait for Nango's budget, not for a process.
    """
    values = {"patience": seconds, "streamed": _STREAMED_NAMES}
    return bool(db.execute(_AWAITED, values).scalar_one())


def _build_values(first_loads: int, grace: float) -> dict[str, object]:
    prompt = [RunTrigger.MANUAL.value, RunTrigger.SCHEDULED.value]
    values = {"first_loads": first_loads, "grace": grace, "alive": REPORT_VALID_SECONDS}
    return {**values, "prompt": prompt, "streamed": _STREAMED_NAMES}


def count_unclaimed(db: sa.Connection) -> int:
    """Return how many connections are due by their schedule and not claimed."""
    return int(db.execute(_WAITING, {"streamed": _STREAMED_NAMES}).scalar_one())
