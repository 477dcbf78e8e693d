"""Overviews for operators: connections, their streams and their last runs."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import text

from models.resources import EDGES
from worker.store.state.unresolved import summarize_unresolved

_LEFT_OUT = "'omitted, Graph does not know it in this tenant: ' || array_to_string(left_out, ', ')"
_SMALL_PAGES = "'reads pages of ' || page_size || ', Graph does not answer larger ones'"
_EDGES_WITH_PARENTS = ", ".join(f"('{one.name}', '{one.parent}')" for one in EDGES)
_NOTE = f"{_LEFT_OUT}, {_SMALL_PAGES}"
_CONNECTIONS = text(f"""
    select c.id, c.provider_config_key, c.nango_connection_id, c.provider, c.tenant_id,
           c.display_name, c.status, c.status_reason, c.settings_problem, c.due_at,
           c.requested_at, coalesce(l.event_seq, 0) as events,
           case when l.expires_at > clock_timestamp() then l.holder end as holder,
           f.fresh_at, extract(epoch from clock_timestamp() - f.fresh_at) as age_seconds,
           f.freshness, coalesce(s.attention, '{{}}') ||
               case when e.state = 'failed' and e.error is distinct from c.status_reason
                    then array['last run failed: ' || coalesce(e.error, 'no reason is stored')]
                    else '{{}}' end as attention,
           r.id as run_id, r.state as run_state, r.trigger as run_trigger,
           r.started_at as run_started_at, r.finished_at as run_finished_at,
           r.error as run_error, r.calls as run_calls, r.objects as run_objects
      from sync.connections c
      left join sync.leases l on l.connection_id = c.id
      left join lateral (
           select array_agg(resource || ': ' || concat_ws('; ', coalesce(reason,
                                case when phase in ('refused', 'held') then phase end), {_NOTE})
                            order by resource)
                      filter (where reason is not null or phase in ('refused', 'held')
                                 or left_out is not null or page_size is not null)
                      as attention
             from sync.streams where connection_id = c.id) s on true
      left join lateral (
           select case when bool_and(fresh_at is not null) then min(fresh_at) end as fresh_at,
                  jsonb_object_agg(resource, jsonb_build_object(
                      'fresh_at', fresh_at,
                      'age_seconds', extract(epoch from clock_timestamp() - fresh_at),
                      'interval_seconds', interval_seconds,
                      'is_late', is_late)) as freshness
             from analytics.freshness where connection_id = c.id) f on true
      left join lateral (
           select * from sync.runs where connection_id = c.id order by id desc limit 1) r on true
      left join lateral (
           select state, error from sync.runs where connection_id = c.id and state <> 'running'
            order by id desc limit 1) e on true
     where cast(:id as bigint) is null or c.id = :id
     order by c.id
""")
_STREAMS = text(f"""
    select resource, phase, mode, page_no, seen_count, restarts, first_complete_at, full_walk_at,
           fresh_at, extract(epoch from clock_timestamp() - fresh_at) as age_seconds,
           due_at, full_due_at, nullif(concat_ws('; ', reason, {_NOTE}), '') as reason, left_out,
           page_size,
           case when phase not in ('listing', 'sweeping') then drift end as drift,
           (select count(*) from sync.removals r where r.connection_id = s.connection_id
               and (r.resource = s.resource or
                    (r.resource, s.resource) in ({_EDGES_WITH_PARENTS}))
               and r.held) as held,
           (select count(*) from sync.quarantine q where q.connection_id = s.connection_id
               and q.resource = s.resource) as quarantined
      from sync.streams s where connection_id = :id order by resource
""")


def load_connections_overview(
    db: sa.Connection, connection_id: int | None = None
) -> list[dict[str, Any]]:
    """Return one row per connection: status, freshness, last run, what needs attention."""
    rows = db.execute(_CONNECTIONS, {"id": connection_id}).mappings()
    apart = summarize_unresolved(db, connection_id)
    overview = [dict(row) for row in rows]
    for row in overview:
        row["attention"] += [f"{name}: {why}" for name, why in apart.get(row["id"], {}).items()]
    return overview


_HELD = text("""
    select resource, key, reason, noted_at, count(*) over (partition by resource) as number
      from sync.removals where connection_id = :id and held order by resource, key limit :limit
""")


def list_held_samples(
    db: sa.Connection, connection_id: int, limit: int = 10
) -> list[dict[str, Any]]:
    """Return some of the deletions that wait for approval."""
    values = {"id": connection_id, "limit": limit}
    return [dict(row) for row in db.execute(_HELD, values).mappings()]


def load_streams_overview(db: sa.Connection, connection_id: int) -> list[dict[str, Any]]:
    """Return the streams of a connection; ``unresolved`` is what Graph does not answer for."""
    rows = db.execute(_STREAMS, {"id": connection_id}).mappings()
    apart = summarize_unresolved(db, connection_id).get(connection_id, {})
    return [{**row, "unresolved": apart.get(row["resource"])} for row in rows]
