-- Who changed department or job in the last month, from what to what?
select occurred_at, object_name, property, old_value, new_value
  from analytics.changes
 where connection_id = 1 and resource = 'users' and occurred_at > now() - interval '1 month'
   and property in ('department', 'job_title')
 order by occurred_at, object_name, property;
