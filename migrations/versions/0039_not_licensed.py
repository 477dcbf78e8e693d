"""Resources that the tenant has no licence for: a phase of their own in freshness, and never late."""

from alembic import op

revision = "0039"
down_revision = "0038"
branch_labels = None
depends_on = None

_NOT_LICENSED = "(s.phase = 'refused' and s.reason like '%the tenant has no licence for this')"
"""The reason as ``worker/conditions/reasons.py`` has it; a test holds the two together."""

_FRESHNESS = """
    create or replace view analytics.freshness as
    select c.id as connection_id, c.display_name as organization, w.resource, s.fresh_at,
           s.interval_seconds,
           {licensed}coalesce(s.fresh_at, c.created_at)
               < clock_timestamp() - make_interval(secs => greatest(
                     3 * coalesce(s.interval_seconds, 300),
                     coalesce(s.interval_seconds, 300) + 600)) as is_late,
           {phase} as phase, s.reason
      from sync.connections c
     cross join (
           select t.relname::text collate "default",
                  case when t.relname = 'group_members' then 'groups' else t.relname::text end
             from pg_catalog.pg_class t join pg_catalog.pg_namespace n on n.oid = t.relnamespace
            where n.nspname = 'directory' and t.relkind = 'r') w (resource, stream)
      left join sync.streams s on s.connection_id = c.id and s.resource = w.stream
     where c.status <> 'retired'
"""
_CONNECTIONS = """
    create or replace view analytics.connections as
    select c.id as connection_id, c.tenant_id, c.display_name as organization, c.status,
           f.fresh_at
      from sync.connections c
      left join lateral (
           select case when bool_and(fresh_at is not null) then min(fresh_at) end as fresh_at
             from analytics.freshness where connection_id = c.id{licensed}) f on true
     where c.status <> 'retired'
"""
_PHASE = "coalesce(s.phase, 'ready')"
_COMMENTS = {
    "freshness.phase": "what is being done with the resource: ready, listing, sweeping, delta,"
    " refused, held, or not_licensed where the tenant lacks the licence for it",
    "freshness.is_late": "older than three intervals, and than one interval and ten minutes; false"
    " where the tenant lacks the licence for it",
    "connections.fresh_at": "the rows of all resources are at least as new as this, those aside"
    " that the tenant lacks the licence for; null where one was never read",
}
_COMMENTS_BEFORE = {
    "freshness.phase": "what is being done with the resource: ready, listing, sweeping, delta,"
    " refused or held",
    "freshness.is_late": "older than three intervals, and than one interval and ten minutes",
    "connections.fresh_at": "the rows of all resources are at least as new as this; null where one"
    " was never read",
}


def upgrade() -> None:
    shown = f"case when {_NOT_LICENSED} then 'not_licensed' else {_PHASE} end"
    licensed = f"coalesce(not {_NOT_LICENSED}, true) and "
    op.execute(_FRESHNESS.format(licensed=licensed, phase=shown))
    op.execute(_CONNECTIONS.format(licensed=" and phase <> 'not_licensed'"))
    _comment(_COMMENTS)


def downgrade() -> None:
    op.execute(_CONNECTIONS.format(licensed=""))
    op.execute(_FRESHNESS.format(licensed="", phase=_PHASE))
    _comment(_COMMENTS_BEFORE)


def _comment(comments: dict[str, str]) -> None:
    for column, comment in comments.items():
        op.execute(f"comment on column analytics.{column} is '{comment}'")
