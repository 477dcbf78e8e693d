"""Resources that settings switch off, and properties that they leave out."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0045"
down_revision = "0044"
branch_labels = None
depends_on = None

_NOT_LICENSED = "(s.phase = 'refused' and s.reason like '%the tenant has no licence for this')"
"""The reason as ``worker/conditions/reasons.py`` has it; a test holds the two together."""

_OFF = """(s.off_at is not null or coalesce(w.relation = any(s.dropped), false)
                or s.resource is null and w.is_optional)"""
"""Off, the edges of a stream that is on included; without a stream yet, by the declaration."""

_FRESHNESS = f"""
    create or replace view analytics.freshness as
    select c.id as connection_id, c.display_name as organization, w.name as resource, s.fresh_at,
           s.interval_seconds,
           coalesce(not {_NOT_LICENSED}, true) and {{on}}
           coalesce(s.fresh_at, greatest(c.created_at, s.first_due_at))
               < clock_timestamp() - make_interval(secs => greatest(
                     3 * coalesce(s.interval_seconds, 300),
                     coalesce(s.interval_seconds, 300) + 600)) as is_late,
           case {{off}}when {_NOT_LICENSED} then 'not_licensed' else coalesce(s.phase, 'ready') end
               as phase, s.reason
      from sync.connections c
     cross join sync.resources w
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
             from analytics.freshness f
            where connection_id = c.id and {counted}
              and (fresh_at is not null or not exists (
                       select from sync.resources r
                         join sync.streams s on s.resource = r.stream
                        where r.name = f.resource and s.connection_id = c.id
                          and s.first_due_at is not null))) f on true
     where c.status <> 'retired'
"""
_COMMENTS = {
    "freshness.phase": "what is being done with the resource: ready, listing, sweeping, delta,"
    " refused, held, not_licensed where the tenant lacks the licence for it, or off where the"
    " settings switch it off",
    "freshness.is_late": "older than three intervals, and than one interval and ten minutes; false"
    " where the tenant lacks the licence for it, or the settings switch it off",
    "connections.fresh_at": "the rows of all resources are at least as new as this, those aside"
    " that the tenant lacks the licence for, that are off, or that were added and not read yet;"
    " null where another one was never read",
}
_COMMENTS_BEFORE = {
    "freshness.phase": "what is being done with the resource: ready, listing, sweeping, delta,"
    " refused, held, or not_licensed where the tenant lacks the licence for it",
    "freshness.is_late": "older than three intervals, and than one interval and ten minutes; false"
    " where the tenant lacks the licence for it",
    "connections.fresh_at": "the rows of all resources are at least as new as this, those aside"
    " that the tenant lacks the licence for, or that were added and not read yet; null where"
    " another one was never read",
}


def upgrade() -> None:
    for table, columns in _build_columns().items():
        for column in columns:
            op.add_column(table, column, schema="sync", if_not_exists=True)
    op.execute("update sync.resources set relation = 'members' where name = 'group_members'")
    op.execute(
        _FRESHNESS.format(on=f"not {_OFF} and", off=f"when {_OFF} then 'off'\n                ")
    )
    op.execute(_CONNECTIONS.format(counted="phase not in ('not_licensed', 'off')"))
    _comment(_COMMENTS)


def downgrade() -> None:
    """The release before reads everything: what was off begins at once, as a first load."""
    op.execute("update sync.streams set due_at = now() where off_at is not null")
    op.execute(_CONNECTIONS.format(counted="phase <> 'not_licensed'"))
    op.execute(_FRESHNESS.format(on="", off=""))
    _comment(_COMMENTS_BEFORE)
    for table, columns in _build_columns().items():
        for column in columns:
            op.drop_column(table, column.name, schema="sync", if_exists=True)


def _build_columns() -> dict[str, list[sa.Column[Any]]]:
    return {
        "resources": [
            sa.Column(
                "relation",
                sa.Text(),
                nullable=True,
                comment="property of the stream's objects that carries it; null for objects",
            ),
            sa.Column(
                "is_optional",
                sa.Boolean(),
                server_default=sa.text("false"),
                nullable=False,
                comment="whether it is off unless it is switched on",
            ),
        ],
        "streams": [
            sa.Column(
                "off_at",
                sa.DateTime(timezone=True),
                nullable=True,
                comment="since when the settings switch it off; null: it is on",
            ),
            sa.Column(
                "dropped",
                postgresql.ARRAY(sa.Text()),
                nullable=True,
                comment="Graph properties, and relations that carry edges, that the settings"
                " leave out",
            ),
            sa.Column(
                "to_clear",
                postgresql.ARRAY(sa.Text()),
                nullable=True,
                comment="columns and relations whose values are still to be removed; the key: rows",
            ),
        ],
    }


def _comment(comments: dict[str, str]) -> None:
    for column, comment in comments.items():
        op.execute(f"comment on column analytics.{column} is '{comment}'")
