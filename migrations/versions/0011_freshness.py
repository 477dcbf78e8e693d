"""One definition of freshness; claims leave a mark; workers are known."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_FRESHNESS = """
    select c.id as connection_id, c.display_name as organization, w.resource, s.fresh_at,
           s.interval_seconds,
           coalesce(s.fresh_at, c.created_at)
               < clock_timestamp() - make_interval(secs => greatest(
                     3 * coalesce(s.interval_seconds, 300),
                     coalesce(s.interval_seconds, 300) + 600)) as is_late,
           coalesce(s.phase, 'ready') as phase, s.reason
      from sync.connections c
     cross join (values ('users', 'users'), ('groups', 'groups'), ('group_members', 'groups'),
                        ('sites', 'sites'), ('role_definitions', 'role_definitions'),
                        ('role_assignments', 'role_assignments')) w (resource, stream)
      left join sync.streams s on s.connection_id = c.id and s.resource = w.stream
     where c.status <> 'retired'
"""
_CONNECTIONS = """
    select c.id as connection_id, c.tenant_id, c.display_name as organization, c.status,
           f.fresh_at
      from sync.connections c
      left join lateral (
           select case when bool_and(fresh_at is not null) then min(fresh_at) end as fresh_at
             from analytics.freshness where connection_id = c.id) f on true
     where c.status <> 'retired'
"""
_CONNECTIONS_BEFORE = """
    select c.id as connection_id, c.tenant_id, c.display_name as organization, c.status,
           min(s.fresh_at) as fresh_at
      from sync.connections c left join sync.streams s on s.connection_id = c.id
     where c.status <> 'retired' group by c.id
"""
_COMMENTS = {
    "fresh_at": "the rows are at least as new as this; null where they were never read",
    "interval_seconds": "seconds between two reads; null where none was begun",
    "is_late": "older than three intervals, and than one interval and ten minutes",
    "reason": "why it is refused, held or waiting, in plain words",
}


def upgrade() -> None:
    op.add_column(
        "streams",
        sa.Column(
            "interval_seconds",
            sa.Double(),
            nullable=True,
            comment="seconds between two reads, as of the last one",
        ),
        schema="sync",
        if_not_exists=True,
    )
    op.add_column(
        "connections",
        sa.Column(
            "waiting_since",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when it fell due, where no slice has ended since it was claimed",
        ),
        schema="sync",
        if_not_exists=True,
    )
    op.create_table(
        "workers",
        sa.Column(
            "name", sa.Text(), nullable=False, comment="as Celery calls it, with its process"
        ),
        sa.Column("queues", ARRAY(sa.Text()), nullable=False),
        sa.Column(
            "processes", ARRAY(sa.Text()), nullable=False, comment="as leases name their holders"
        ),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_workers")),
        schema="sync",
        comment="Workers that consume queues; each says so every few seconds",
        if_not_exists=True,
    )
    op.execute(f"create or replace view analytics.freshness as {_FRESHNESS}")
    for column, comment in _COMMENTS.items():
        op.execute(f"comment on column analytics.freshness.{column} is '{comment}'")
    op.execute(f"create or replace view analytics.connections as {_CONNECTIONS}")


def downgrade() -> None:
    op.execute(f"create or replace view analytics.connections as {_CONNECTIONS_BEFORE}")
    op.execute("drop view if exists analytics.freshness")
    op.drop_table("workers", schema="sync", if_exists=True)
    op.drop_column("connections", "waiting_since", schema="sync", if_exists=True)
    op.drop_column("streams", "interval_seconds", schema="sync", if_exists=True)
