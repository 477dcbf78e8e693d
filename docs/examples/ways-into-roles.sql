-- Which groups hold roles, and which owners could add themselves?
select a.role_name, a.principal_name as group_name, g.is_assignable_to_role, o.owner_name,
       exists (select from analytics.effective_role_holders h
                where h.connection_id = o.connection_id and h.holder_id = o.owner_id
                  and h.role_definition_id = a.role_definition_id) as holds_it_already
  from analytics.role_assignments a
  join analytics.groups g on g.connection_id = a.connection_id and g.id = a.principal_id
  left join analytics.group_owners o
    on o.connection_id = a.connection_id and o.group_id = a.principal_id
 where a.connection_id = 1
 order by role_name, group_name, owner_name;
