"""Rows know since when they are live; memberships and roles held say it, where it is known."""

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_TABLES = {
    "users": "t.id::text",
    "groups": "t.id::text",
    "group_members": "t.group_id::text || '/' || t.member_id::text",
    "sites": "t.id::text",
    "role_definitions": "t.id::text",
    "role_assignments": "t.id",
}
_PARENTS = {"group_members": "groups"}
_COMMENT = "when it was seen to become live; null where that was not seen"

# An earlier release that revives a row does not know the column: it keeps the beginning of the span
# that has ended, and nothing else shows that.
_FUNCTION = """
    create or replace function directory.forget_live_since() returns trigger language plpgsql as
    $$ begin new.live_since := null; return new; end $$
"""
_TRIGGER = """
    create or replace trigger forget_live_since before update of deleted_at on directory.{table}
       for each row when (old.deleted_at is not null and new.deleted_at is null
                          and new.live_since is not distinct from old.live_since)
       execute function directory.forget_live_since()
"""

# Each connection under its lease row, as every writer has it, and its events are read once for all
# tables. What began is told by the last event that made the object live, unless a first load told
# it; where that event is no longer kept, by a row that has not changed since it was stored after the
# first load.
_FILL = """
    do $fill$
    declare customer bigint;
    begin
      for customer in select id from sync.connections order by id loop
        perform set_config('lock_timeout', '60s', true);
        perform from sync.leases where connection_id = customer for update;
        with told as materialized (
             select distinct on (resource, object_id) resource, object_id,
                    case when not initial then occurred_at end as began
               from events.change_events
              where connection_id = customer and change in ('created', 'restored')
              order by resource, object_id, seq desc),
        {updates};
        commit;
      end loop;
    end $fill$
"""
_UPDATE = """
        update directory.{table} t set live_since = known.began
          from (select case when e.object_id is not null then e.began
                            when r.first_seen_at = r.changed_at
                             and r.first_seen_at > s.first_complete_at then r.first_seen_at
                       end as began, r.place
                  from (select t.ctid as place, t.first_seen_at, t.changed_at, {key} as key
                          from directory.{table} t
                         where t.connection_id = customer and t.deleted_at is null
                           and t.live_since is null) r
                  join sync.streams s on s.connection_id = customer and s.resource = '{stream}'
                  left join told e on e.resource = '{table}' and e.object_id = r.key) known
         where t.ctid = known.place and known.began is not null"""
_LIVE = """
    join sync.connections c on c.id = t.connection_id and c.status <> 'retired'
   where t.deleted_at is null
"""
_MEMBERS = """
    select c.display_name as organization, t.connection_id, t.group_id,
           g.display_name as group_name, t.member_id, t.member_type,
           coalesce(u.display_name, m.display_name) as member_name,
           u.user_principal_name, {since}
      from directory.group_members t
      left join directory.groups g
        on g.connection_id = t.connection_id and g.id = t.group_id
      left join directory.users u
        on u.connection_id = t.connection_id and u.id = t.member_id
      left join directory.groups m
        on m.connection_id = t.connection_id and m.id = t.member_id
"""
_ASSIGNMENTS = """
    select c.display_name as organization, t.connection_id, t.id, t.principal_id,
           coalesce(u.display_name, g.display_name) as principal_name,
           case when u.id is not null then 'user' when g.id is not null then 'group'
                else 'other' end as principal_type,
           u.user_principal_name, t.role_definition_id, d.display_name as role_name,
           d.is_built_in, t.directory_scope_id, t.app_scope_id, {since}
      from directory.role_assignments t
      left join directory.role_definitions d
        on d.connection_id = t.connection_id and d.id = t.role_definition_id
      left join directory.users u
        on u.connection_id = t.connection_id and u.id = t.principal_id
      left join directory.groups g
        on g.connection_id = t.connection_id and g.id = t.principal_id
"""
_VIEWS = {"group_members": _MEMBERS, "role_assignments": _ASSIGNMENTS}
_SINCE = """
    t.live_since as since, t.live_since is not null as since_exact,
    coalesce(t.live_since, t.changed_at) as at_least_since
"""
_SINCE_BEFORE = """
    t.first_seen_at as since, false as since_exact, t.changed_at as at_least_since
"""
_COMMENTS = {
    "since": "when it began, as closely as the resource is read; null where that was not seen,"
    " as in a first load",
    "since_exact": "whether since is known",
    "at_least_since": "since when it is known to hold: since, or the last change of the row; never null",
}


def upgrade() -> None:
    op.execute(_FUNCTION)
    for table in _TABLES:
        op.execute(f"alter table directory.{table} add column if not exists live_since timestamptz")
        op.execute(f"comment on column directory.{table}.live_since is '{_COMMENT}'")
        op.execute(_TRIGGER.format(table=table))
    for name, query in _VIEWS.items():
        op.execute(
            f"create or replace view analytics.{name} as {query.format(since=_SINCE)}{_LIVE}"
        )
        for column, comment in _COMMENTS.items():
            op.execute(f"comment on column analytics.{name}.{column} is '{comment}'")
    *others, last = [
        _UPDATE.format(table=table, key=key, stream=_PARENTS.get(table, table))
        for table, key in _TABLES.items()
    ]
    within = [f"filled_{number} as ({one})" for number, one in enumerate(others)]
    updates = ",".join(within) + last
    with op.get_context().autocommit_block():
        op.execute("set statement_timeout = 0")
        op.execute(_FILL.format(updates=updates))
        op.execute("set statement_timeout = '60s'")


def downgrade() -> None:
    # The views keep their columns: to drop them would drop what readers were granted.
    for name, query in _VIEWS.items():
        before = query.format(since=_SINCE_BEFORE)
        op.execute(f"create or replace view analytics.{name} as {before}{_LIVE}")
    for table in _TABLES:
        op.execute(f"drop trigger if exists forget_live_since on directory.{table}")
        op.drop_column(table, "live_since", schema="directory", if_exists=True)
    op.execute("drop function if exists directory.forget_live_since()")
