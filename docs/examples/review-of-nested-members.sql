-- A sheet to review access to a group: who is in it, through what, since when, who decides?
select m.member_name, m.path, d.since, d.at_least_since,
       (select string_agg(o.owner_name, ', ' order by o.owner_name) from analytics.group_owners o
         where o.connection_id = g.connection_id and o.group_id = g.id) as owners,
       (select b.manager_name from analytics.managers b
         where b.connection_id = g.connection_id and b.user_id = m.member_id) as manager
  from analytics.groups g
 cross join lateral analytics.members_of(g.connection_id, g.id) m
  left join analytics.group_members d
    on d.connection_id = g.connection_id and d.group_id = g.id and d.member_id = m.member_id
 where g.connection_id = 1 and g.display_name = 'Helpers' and m.member_type = 'user'
 order by m.member_name;
