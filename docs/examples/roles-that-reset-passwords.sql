-- Which roles of the organization's own may reset passwords, or add secrets to applications?
select role_name, action, condition
  from analytics.role_permissions
 where connection_id = 1 and not is_built_in and is_enabled
   and action in ('microsoft.directory/users/password/update',
                  'microsoft.directory/applications/credentials/update')
 order by role_name, action;
