"""Freshness covers every table of the mirror, so that a new resource appears by itself."""

from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

_FRESHNESS = """
    create or replace view analytics.freshness as
    select c.id as connection_id, c.display_name as organization, w.resource, s.fresh_at,
           s.interval_seconds,
           coalesce(s.fresh_at, c.created_at)
               < clock_timestamp() - make_interval(secs => greatest(
                     3 * coalesce(s.interval_seconds, 300),
                     coalesce(s.interval_seconds, 300) + 600)) as is_late,
           coalesce(s.phase, 'ready') as phase, s.reason
      from sync.connections c
     cross join ({resources}) w (resource, stream)
      left join sync.streams s on s.connection_id = c.id and s.resource = w.stream
     where c.status <> 'retired'
"""
_TABLES = """
    select t.relname::text collate "default",
           case when t.relname = 'group_members' then 'groups' else t.relname::text end
      from pg_catalog.pg_class t join pg_catalog.pg_namespace n on n.oid = t.relnamespace
     where n.nspname = 'directory' and t.relkind = 'r'
"""
"""Memberships are read with groups. A view's column keeps its collation; that of names is C."""

_SIX = """
    values ('users', 'users'), ('groups', 'groups'), ('group_members', 'groups'),
           ('sites', 'sites'), ('role_definitions', 'role_definitions'),
           ('role_assignments', 'role_assignments')
"""


def upgrade() -> None:
    op.execute(_FRESHNESS.format(resources=_TABLES))


def downgrade() -> None:
    op.execute(_FRESHNESS.format(resources=_SIX))
