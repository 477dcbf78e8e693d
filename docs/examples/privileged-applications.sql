-- Which applications have permissions of Microsoft Graph that make them privileged, and for whom?
select a.principal_name as application, a.permission, 'itself' as acts_as, p.meaning
  from analytics.app_role_assignments a
  join analytics.privileged_permissions p on p.permission = a.permission and p.is_counted
  join analytics.service_principals r
    on r.connection_id = a.connection_id and r.id = a.resource_id and r.is_microsoft
 where a.connection_id = 1
 union all
select g.client_name, g.permission,
       case when g.is_for_all_users then 'all users' else g.principal_name end, p.meaning
  from analytics.permission_grants g
  join analytics.privileged_permissions p on p.permission = g.permission and p.is_counted
  join analytics.service_principals r
    on r.connection_id = g.connection_id and r.id = g.resource_id and r.is_microsoft
 where g.connection_id = 1
 order by application, permission;
