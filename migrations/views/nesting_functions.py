"""Functions that walk groups in groups, with the names on the shortest way.

Answers are the same where no closure is stored: the memberships are walked then, level by level.
"""

from typing import Final

from migrations.views.function import AnalyticsFunction, Argument

_OF_LEVELS: Final = "l.depth between 0 and 2147483646"
"""Always true. Without it the planner expects a thousand groups of each walk, even where a closure
is stored and nothing is walked, and reads all users for the members of one small group.
"""

GROUPS_INSIDE: Final = AnalyticsFunction(
    "groups_inside",
    "A group and all groups inside it, with the names on the shortest way",
    (
        Argument("of_connection", "bigint"),
        Argument("of_group", "uuid"),
    ),
    (
        Argument("group_id", "uuid"),
        Argument("depth", "integer"),
        Argument("path", "text"),
    ),
    f"""
with recursive
start as (
     select n.state, coalesce(g.display_name, of_group::text) as name
       from analytics.nesting n
       left join directory.groups g on g.connection_id = of_connection and g.id = of_group
      where n.connection_id = of_connection),
inside as materialized (
     select k.inner_id, k.depth, k.via_id, coalesce(g.display_name, k.inner_id::text) as name
       from directory.group_closure k
       left join directory.groups g on g.connection_id = of_connection and g.id = k.inner_id
      where k.connection_id = of_connection and k.group_id = of_group and k.inner_id <> of_group),
way (inner_id, depth, path) as (
     select of_group, 0, s.name from start s where s.state = 'complete'
      union all
     select i.inner_id, i.depth, w.path || ' > ' || i.name
       from way w join inside i on i.via_id = w.inner_id and i.depth = w.depth + 1),
level (depth, ids, paths, seen) as (
     select 0, array[of_group], array[s.name], array[of_group]
       from start s where s.state <> 'complete'
      union all
     select l.depth + 1, f.ids, f.paths, l.seen || f.ids
       from level l
      cross join lateral (
            select array_agg(n.id order by n.id) as ids, array_agg(n.path order by n.id) as paths
              from (select distinct on (d.member_id) d.member_id as id,
                           o.path || ' > ' || coalesce(g.display_name, d.member_id::text) as path
                      from unnest(l.ids, l.paths) as o (id, path)
                      join directory.group_members d
                        on d.connection_id = of_connection and d.group_id = o.id
                      left join directory.groups g
                        on g.connection_id = of_connection and g.id = d.member_id
                     where d.member_type = 'group' and d.deleted_at is null
                       and not exists (select from unnest(l.seen) s (id) where s.id = d.member_id)
                     order by d.member_id, o.id) n) f
      where f.ids is not null)
select w.inner_id, w.depth, w.path from way w
 union all
select o.id, l.depth, o.path
  from level l cross join lateral unnest(l.ids, l.paths) as o (id, path)
 where {_OF_LEVELS}
""",
    rows=100,
    made_before="effective_role_holders",
)

GROUPS_AROUND: Final = AnalyticsFunction(
    "groups_around",
    "A group and all groups that it lies in, with the names on the shortest way",
    (
        Argument("of_connection", "bigint"),
        Argument("of_group", "uuid"),
    ),
    (
        Argument("group_id", "uuid"),
        Argument("depth", "integer"),
        Argument("path", "text"),
    ),
    f"""
with recursive
start as (
     select n.state, coalesce(g.display_name, of_group::text) as name
       from analytics.nesting n
       left join directory.groups g on g.connection_id = of_connection and g.id = of_group
      where n.connection_id = of_connection),
way (outer_id, depth, at_id, path) as (
     select k.group_id, k.depth, k.via_id, s.name
       from start s
       join directory.group_closure k
         on k.connection_id = of_connection and k.inner_id = of_group and k.group_id <> of_group
      where s.state = 'complete'
      union all
     select w.outer_id, w.depth, k.via_id,
            coalesce(g.display_name, w.at_id::text) || ' > ' || w.path
       from way w
       join directory.group_closure k
         on k.connection_id = of_connection and k.group_id = w.outer_id and k.inner_id = w.at_id
       left join directory.groups g on g.connection_id = of_connection and g.id = w.at_id
      where w.at_id <> w.outer_id),
level (depth, ids, paths, seen) as (
     select 0, array[of_group], array[s.name], array[of_group]
       from start s where s.state <> 'complete'
      union all
     select l.depth + 1, f.ids, f.paths, l.seen || f.ids
       from level l
      cross join lateral (
            select array_agg(n.id order by n.id) as ids, array_agg(n.path order by n.id) as paths
              from (select distinct on (d.group_id) d.group_id as id,
                           coalesce(g.display_name, d.group_id::text) || ' > ' || i.path as path
                      from unnest(l.ids, l.paths) as i (id, path)
                      join directory.group_members d
                        on d.connection_id = of_connection and d.member_id = i.id
                      left join directory.groups g
                        on g.connection_id = of_connection and g.id = d.group_id
                     where d.member_type = 'group' and d.deleted_at is null
                       and not exists (select from unnest(l.seen) s (id) where s.id = d.group_id)
                     order by d.group_id, i.id) n) f
      where f.ids is not null)
select of_group, 0, s.name from start s where s.state = 'complete'
 union all
select w.outer_id, w.depth, coalesce(g.display_name, w.outer_id::text) || ' > ' || w.path
  from way w
  left join directory.groups g on g.connection_id = of_connection and g.id = w.outer_id
 where w.at_id = w.outer_id
 union all
select i.id, l.depth, i.path
  from level l cross join lateral unnest(l.ids, l.paths) as i (id, path)
 where {_OF_LEVELS}
""",
    rows=100,
)

MEMBERS_OF: Final = AnalyticsFunction(
    "members_of",
    "All members of a group, directly or through groups in groups, with the way",
    (
        Argument("of_connection", "bigint"),
        Argument("of_group", "uuid"),
    ),
    (
        Argument("member_id", "uuid"),
        Argument("member_type", "text"),
        Argument("member_name", "text"),
        Argument("user_principal_name", "text"),
        Argument("depth", "integer"),
        Argument("ways", "bigint"),
        Argument("through_group_id", "uuid"),
        Argument("path", "text"),
    ),
    """
with inside as materialized (
     select i.group_id, i.depth, i.path from analytics.groups_inside(of_connection, of_group) i)
select e.member_id,
       case when e.member_type is not null then e.member_type
            when u.id is not null then 'user' when m.id is not null then 'group'
            when p.id is not null then 'service_principal' else 'unresolved' end,
       coalesce(u.display_name, m.display_name, p.display_name), u.user_principal_name,
       e.depth, e.ways, e.through_id, t.path
  from (select d.member_id, max(nullif(d.member_type, 'other')) as member_type,
               min(i.depth) as depth, count(*) as ways,
               (array_agg(i.group_id order by i.depth, i.group_id))[1] as through_id
          from inside i
          join directory.group_members d
            on d.connection_id = of_connection and d.group_id = i.group_id
         where d.deleted_at is null
         group by d.member_id) e
  join inside t on t.group_id = e.through_id
  left join directory.users u on u.connection_id = of_connection and u.id = e.member_id
  left join directory.groups m on m.connection_id = of_connection and m.id = e.member_id
  left join directory.service_principals p
    on p.connection_id = of_connection and p.id = e.member_id
""",
    made_before="effective_role_holders",
)

GROUPS_OF: Final = AnalyticsFunction(
    "groups_of",
    "All groups of a member, directly or through groups in groups, with the way",
    (
        Argument("of_connection", "bigint"),
        Argument("of_member", "uuid"),
    ),
    (
        Argument("group_id", "uuid"),
        Argument("group_name", "text"),
        Argument("depth", "integer"),
        Argument("ways", "bigint"),
        Argument("through_group_id", "uuid"),
        Argument("path", "text"),
    ),
    """
select e.group_id, g.display_name, e.depth, e.ways, e.through_id, e.path
  from (select a.group_id, min(a.depth) as depth, count(*) as ways,
               (array_agg(d.group_id order by a.depth, d.group_id))[1] as through_id,
               (array_agg(a.path order by a.depth, d.group_id))[1] as path
          from directory.group_members d
         cross join lateral analytics.groups_around(of_connection, d.group_id) a
         where d.connection_id = of_connection and d.member_id = of_member
           and d.deleted_at is null
         group by a.group_id) e
  left join directory.groups g on g.connection_id = of_connection and g.id = e.group_id
""",
    rows=100,
)
