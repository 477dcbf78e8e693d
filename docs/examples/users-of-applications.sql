-- Who may use which application, by a role of their own or as a direct member of a group that has one?
select a.resource_name as application, s.app_role_assignment_required, u.user_principal_name,
       u.account_enabled, a.permission as role,
       case when m.group_id is null then 'direct' else m.group_name end as through
  from analytics.app_role_assignments a
  join analytics.service_principals s
    on s.connection_id = a.connection_id and s.id = a.resource_id
  left join analytics.group_members m
    on m.connection_id = a.connection_id and m.group_id = a.principal_id
   and m.member_type = 'user'
  join analytics.users u
    on u.connection_id = a.connection_id and u.id = coalesce(m.member_id, a.principal_id)
 where a.connection_id = 1
 order by application, user_principal_name, role, through;
