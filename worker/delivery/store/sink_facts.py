"""Load what the judge of conditions needs of the sinks: one statement, if no event is overdue."""

from datetime import datetime

import msgspec
import sqlalchemy as sa
from sqlalchemy import text

from models.sink import SinkStatus
from worker.conditions.facts import SinkFacts
from worker.delivery.store.lost_events import LOST_PREFIX
from worker.delivery.store.retention import find_undelivered
from worker.events.partitions import MonthPartition, parse_months

_LOAD = text("""
    select (select array_agg(c.relname::text) from pg_catalog.pg_inherits i
              join pg_catalog.pg_class c on c.oid = i.inhrelid
             where i.inhparent = 'events.change_events'::regclass) as months,
           clock_timestamp() as now, s.id, s.name, s.kind, s.status, s.status_reason, s.failures,
           s.retry_at, s.last_delivered_at, coalesce(s.expires_at > clock_timestamp(), false),
           n.number, n.at, n.reason, coalesce(d.events, 0)::bigint,
           coalesce(d.connections, 0)::bigint, d.at as lost_at
      from events.sinks s
     cross join lateral (
           select count(*) as number, max(failed_at) as at,
                  (array_agg(reason order by failed_at desc))[1] as reason
             from events.positions where sink_id = s.id and failures > 0) n
      left join lateral (
           select sum((p ->> 'last')::bigint - (p ->> 'first')::bigint + 1) as events,
                  count(distinct p ->> 'connection_id') as connections, min(m.updated_at) as at
             from sync.service_state m
            cross join jsonb_array_elements(m.value -> 'parts') as p
            where starts_with(m.name, :lost || s.id || ':')) d on true
     order by s.name
""")


def load_sink_facts(db: sa.Connection, *, days: int, grace_days: int) -> tuple[SinkFacts, ...]:
    """Return the state of every sink; retention is ``days``, and ``grace_days`` more for a sink."""
    rows = db.execute(_LOAD, {"lost": LOST_PREFIX}).all()
    sinks = tuple(SinkFacts(*row[2:]) for row in rows)
    for month in parse_months(rows[0].months or ()) if rows else ():
        if month.compute_expiry(days) <= rows[0].now:
            sinks = _add_kept(db, sinks, month, month.compute_expiry(days + grace_days))
    return sinks


def _add_kept(
    db: sa.Connection, sinks: tuple[SinkFacts, ...], month: MonthPartition, until: datetime
) -> tuple[SinkFacts, ...]:
    """Return the sinks with the events of a month that active ones have not received."""
    kept = {one.sink_id: one.event_count for one in find_undelivered(db, month)}
    return tuple(
        msgspec.structs.replace(
            sink,
            kept_events=sink.kept_events + kept[sink.id],
            kept_until=min(until, sink.kept_until or until),
        )
        if sink.id in kept and sink.status == SinkStatus.ACTIVE
        else sink
        for sink in sinks
    )
