-- Who holds Global Administrator, or may activate it, counting groups, and is it two to eight people?
select holder_name, holder_type, state, is_permanent, coalesce(path, 'directly') as way,
       count(*) filter (where holder_type = 'user') over () as user_rows,
       (select count(distinct holder_id) from analytics.effective_role_holders
         where connection_id = 1 and holder_type = 'user'
           and role_template_id = '62e90394-69f5-4237-9190-012177145e10') as people
  from analytics.effective_role_holders
 where connection_id = 1 and role_template_id = '62e90394-69f5-4237-9190-012177145e10'
 order by holder_name, state, way;
