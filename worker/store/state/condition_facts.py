"""Load what the judge of conditions needs of each connection: two statements for all of them."""

from collections.abc import Collection, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import text

from models.resources import EDGES, EDGES_IN, RESOURCES, STREAMED
from worker.conditions.facts import ConnectionFacts, StreamFacts
from worker.conditions.resource_age import ResourceAge
from worker.store.state.claims import IS_SETTLED
from worker.store.state.streams import IS_NOT_LICENSED

_NAMES: Final = tuple(resource.name for resource in STREAMED)
_EDGES_WITH_PARENTS: Final = ", ".join(f"('{one.name}', '{one.parent}')" for one in EDGES)
_WANTED: Final = "(cast(:ids as bigint[]) is null or {column} = any(cast(:ids as bigint[])))"

_CONNECTIONS = text(f"""
    with stream_facts as (
        select connection_id, array_agg(resource) as resources,
               array_agg(extract(epoch from fresh_at)::float8) as fresh,
               array_agg(interval_seconds) as intervals,
               array_agg(coalesce({IS_NOT_LICENSED}, false)) as unlicensed,
               array_agg(extract(epoch from first_due_at)::float8) as first_due,
               array_agg(off_at is null) as on_flags,
               array_agg(array_to_string(dropped, ' ')) as dropped,
               count(*) filter (where {IS_SETTLED}) as settled
          from sync.streams s
         where resource = any(:streamed) and {_WANTED.format(column="connection_id")}
         group by connection_id),
    apart as (
        select connection_id, count(*) filter (where kept_apart) as quarantined,
               count(*) filter (where not kept_apart) as inexact
          from sync.quarantine where {_WANTED.format(column="connection_id")}
         group by connection_id),
    parts as (
        select connection_id, count(*) as number from sync.unresolved
         where {_WANTED.format(column="connection_id")} group by connection_id)
    select c.id, c.provider_config_key, c.nango_connection_id, c.provider, c.tenant_id,
           c.display_name, array_to_string(c.domains, ' '), c.status, c.status_reason,
           c.settings_problem, c.created_at, c.retired_at, c.due_at, c.waiting_since,
           c.requested_at, c.requested_full, c.broken_count, c.operator_paused_at,
           c.operator_paused_by, c.operator_pause_reason, c.operator_paused_until,
           case when l.expires_at > clock_timestamp() then l.holder end,
           case when l.expires_at > clock_timestamp() then l.expires_at end,
           coalesce(l.event_seq, 0), r.id, r.trigger, r.started_at, r.calls,
           r.objects,
           e.id, e.state, e.trigger, e.started_at, e.finished_at, e.error, e.calls, e.objects,
           coalesce(e.state = 'partial' and e.error is not null
                and coalesce(jsonb_typeof(e.resources), 'null') = 'null', false),
           coalesce(s.settled, 0) < cardinality(cast(:streamed as text[])),
           coalesce(a.quarantined, 0), coalesce(a.inexact, 0), coalesce(p.number, 0),
           s.resources, s.fresh, s.intervals, s.unlicensed, s.first_due, s.on_flags, s.dropped,
           extract(epoch from c.created_at)::float8
      from sync.connections c
      left join sync.leases l on l.connection_id = c.id
      left join stream_facts s on s.connection_id = c.id
      left join apart a on a.connection_id = c.id
      left join parts p on p.connection_id = c.id
      left join sync.runs r on r.connection_id = c.id and r.state = 'running'
      left join lateral (
           select * from sync.runs where connection_id = c.id and state <> 'running'
            order by id desc limit 1) e on true
     where {_WANTED.format(column="c.id")}
     order by c.id
""")
_STREAM_COLUMNS: Final = f"""
    s.connection_id, s.resource, s.phase, s.mode, s.reason, s.due_at, s.out_of_budget,
    s.reason is not null and s.phase = 'ready' and s.mode = any(:best_effort),
    case when s.phase not in ('listing', 'sweeping') then s.drift end,
    s.full_walk_at,
    case when s.phase = 'held' then
        (select count(*) from sync.removals r
          where r.connection_id = s.connection_id and r.held
            and (r.resource = s.resource
                 or (r.resource, s.resource) in ({_EDGES_WITH_PARENTS}))) else 0 end
"""
_SOME_DRIFT: Final = 5
"""Drift of one kind up to which a stream is not looked at: there are few kinds."""

_ODD_STREAMS = text(f"""
    select {_STREAM_COLUMNS} from sync.streams s
     where (s.reason is not null or s.phase in ('refused', 'held')
            or jsonb_path_exists(s.drift, '$.*.* ? (@ > {_SOME_DRIFT})')
            or s.out_of_budget)
       and {_WANTED.format(column="s.connection_id")}
     order by s.connection_id, s.resource
""")
_BEST_EFFORT: Final = sorted(
    {
        way.mode.value
        for resource in STREAMED
        for way in resource.sources.values()
        if way.best_effort
    }
)
_PLACES: Final = {name: place for place, name in enumerate(_NAMES)}
_NEVER: Final = tuple(
    ResourceAge(one.name, None, None, is_on=not one.is_optional) for one in STREAMED
)


def load_connection_facts(
    db: sa.Connection, ids: Collection[int] | None = None
) -> list[ConnectionFacts]:
    """Return the facts of the connections with these ids (or of all), by id."""
    values = {"ids": None if ids is None else list(ids), "streamed": list(_NAMES)}
    streams = _load_odd_streams(db, values)
    rows = db.execute(_CONNECTIONS, values).all()
    return [_build_facts(row, streams.get(row[0], ())) for row in rows]


def _load_odd_streams(
    db: sa.Connection, values: dict[str, Any]
) -> dict[int, tuple[StreamFacts, ...]]:
    found: dict[int, list[StreamFacts]] = {}
    for row in db.execute(_ODD_STREAMS, {"ids": values["ids"], "best_effort": _BEST_EFFORT}):
        if row.resource in RESOURCES:
            found.setdefault(row[0], []).append(StreamFacts(*row))
    return {number: tuple(streams) for number, streams in found.items()}


def _build_facts(row: Sequence[Any], streams: tuple[StreamFacts, ...]) -> ConnectionFacts:
    *values, resources, fresh, intervals, unlicensed, first_due, on_flags, dropped, created = row
    columns = (fresh, intervals, unlicensed, first_due, on_flags, dropped)
    ages = _NEVER if resources is None else _build_ages(resources, columns)
    late_at = min([one.compute_late_at(created) for one in ages])
    facts: tuple[Any, ...] = (*values, ages, late_at, streams)
    return ConnectionFacts(*facts)


def _build_ages(
    resources: Sequence[str], columns: Sequence[Sequence[Any]]
) -> tuple[ResourceAge, ...]:
    """Return the age of every resource, in the order of the registry."""
    found = list(_NEVER)
    for name, moment, interval, lacks, due, is_on, gone in zip(resources, *columns, strict=True):
        off = _find_off_edges(name, gone) if gone else ()
        found[_PLACES[name]] = ResourceAge(name, moment, interval, not lacks, due, is_on, off)
    return tuple(found)


def _find_off_edges(name: str, dropped: str) -> tuple[str, ...]:
    relations = set(dropped.split())
    return tuple(edge.name for edge in EDGES_IN[name] if edge.relation in relations)
