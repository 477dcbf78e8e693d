"""Which resources there are, with which stream each is read, and when new ones are read first."""

import sqlalchemy as sa
from alembic import op

revision = "0041"
down_revision = "0040"
branch_labels = None
depends_on = None

_KNOWN = """
    insert into sync.resources (name, stream)
    values ('users', 'users'), ('groups', 'groups'), ('group_members', 'groups'),
           ('sites', 'sites'), ('role_definitions', 'role_definitions'),
           ('role_assignments', 'role_assignments')
        on conflict (name) do nothing
"""
"""What the schema before this one mirrors; ``tenant-mirror migrate`` registers all others."""

_NOT_LICENSED = "(s.phase = 'refused' and s.reason like '%the tenant has no licence for this')"
"""The reason as ``worker/conditions/reasons.py`` has it; a test holds the two together."""

_FRESHNESS = f"""
    create or replace view analytics.freshness as
    select c.id as connection_id, c.display_name as organization, w.resource, s.fresh_at,
           s.interval_seconds,
           coalesce(not {_NOT_LICENSED}, true) and
           coalesce(s.fresh_at, {{since}})
               < clock_timestamp() - make_interval(secs => greatest(
                     3 * coalesce(s.interval_seconds, 300),
                     coalesce(s.interval_seconds, 300) + 600)) as is_late,
           case when {_NOT_LICENSED} then 'not_licensed' else coalesce(s.phase, 'ready') end
               as phase, s.reason
      from sync.connections c
     cross join {{resources}} w (resource, stream)
      left join sync.streams s on s.connection_id = c.id and s.resource = w.stream
     where c.status <> 'retired'
"""
_TABLES = """(
           select t.relname::text collate "default",
                  case when t.relname = 'group_members' then 'groups' else t.relname::text end
             from pg_catalog.pg_class t join pg_catalog.pg_namespace n on n.oid = t.relnamespace
            where n.nspname = 'directory' and t.relkind = 'r')"""
_REGISTERED = "(select name, stream from sync.resources)"
_CONNECTIONS = """
    create or replace view analytics.connections as
    select c.id as connection_id, c.tenant_id, c.display_name as organization, c.status,
           f.fresh_at
      from sync.connections c
      left join lateral (
           select case when bool_and(fresh_at is not null) then min(fresh_at) end as fresh_at
             from analytics.freshness f
            where connection_id = c.id and phase <> 'not_licensed'{added}) f on true
     where c.status <> 'retired'
"""
_ADDED = """
              and (fresh_at is not null or not exists (
                       select from sync.resources r
                         join sync.streams s on s.resource = r.stream
                        where r.name = f.resource and s.connection_id = c.id
                          and s.first_due_at is not null))"""
_COMMENTS = {
    "connections.fresh_at": "the rows of all resources are at least as new as this, those aside"
    " that the tenant lacks the licence for, or that were added and not read yet; null where"
    " another one was never read",
}
_COMMENTS_BEFORE = {
    "connections.fresh_at": "the rows of all resources are at least as new as this, those aside"
    " that the tenant lacks the licence for; null where one was never read",
}


def upgrade() -> None:
    op.create_table(
        "resources",
        sa.Column("name", sa.Text(), comment="the resource, which is also its table"),
        sa.Column("stream", sa.Text(), nullable=False, comment="the resource that it is read with"),
        sa.Column(
            "added_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when a migration added it",
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_resources")),
        schema="sync",
        comment="The resources that the database mirrors, and with which stream each is read",
        if_not_exists=True,
    )
    op.execute(_KNOWN)
    op.add_column(
        "streams",
        sa.Column(
            "first_due_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when it was to be read first; null: together with all others",
        ),
        schema="sync",
        if_not_exists=True,
    )
    since = "greatest(c.created_at, s.first_due_at)"
    op.execute(_FRESHNESS.format(since=since, resources=_REGISTERED))
    op.execute(_CONNECTIONS.format(added=_ADDED))
    _comment(_COMMENTS)


def downgrade() -> None:
    op.execute(_CONNECTIONS.format(added=""))
    op.execute(_FRESHNESS.format(since="c.created_at", resources=_TABLES))
    _comment(_COMMENTS_BEFORE)
    op.drop_column("streams", "first_due_at", schema="sync", if_exists=True)
    op.drop_table("resources", schema="sync", if_exists=True)


def _comment(comments: dict[str, str]) -> None:
    for column, comment in comments.items():
        op.execute(f"comment on column analytics.{column} is '{comment}'")
