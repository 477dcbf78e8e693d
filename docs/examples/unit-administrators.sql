-- Who administers which administrative unit, and how many users does that reach? (Null where all members are hidden.)
select u.display_name as unit, a.role_name, a.principal_type, a.principal_name,
       (select case when count(*) > 0 or not u.is_membership_hidden
                    then count(*) filter (where m.member_type = 'user') end
          from analytics.administrative_unit_members m
         where m.connection_id = u.connection_id and m.unit_id = u.id) as users
  from analytics.administrative_units u
  join analytics.role_assignments a
    on a.connection_id = u.connection_id and a.directory_scope_id = u.scope
 where u.connection_id = 1
 order by unit, role_name, principal_name;
