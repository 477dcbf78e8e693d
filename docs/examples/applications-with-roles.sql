-- Which applications hold a directory role, directly or in a group, those of other organizations first?
select p.is_foreign, h.holder_name as application, h.role_name, coalesce(h.path, 'directly') as way
  from analytics.effective_role_holders h
  join analytics.service_principals p on p.connection_id = h.connection_id and p.id = h.holder_id
 where h.connection_id = 1 and h.holder_type = 'service_principal'
 order by p.is_foreign desc, application, role_name;
