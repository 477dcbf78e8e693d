-- Which guests are in groups that hold roles or that are private, nested groups included?
select m.group_name, m.member_name, m.depth,
       exists (select from analytics.role_assignments a
                where a.connection_id = m.connection_id and a.principal_id = m.group_id) as holds_role
  from analytics.guests g
  join analytics.effective_group_members m
    on m.connection_id = g.connection_id and m.member_id = g.id
  join analytics.groups of on of.connection_id = m.connection_id and of.id = m.group_id
 where g.connection_id = 1
   and (of.visibility = 'Private'
        or exists (select from analytics.role_assignments a
                    where a.connection_id = m.connection_id and a.principal_id = m.group_id))
 order by m.group_name, m.member_name;
