-- How many accounts were created, deleted, restored, enabled or disabled per day in the last month?
select occurred_at::date as day,
       count(*) filter (where change = 'created') as joined,
       count(*) filter (where change = 'deleted') as deleted,
       count(*) filter (where change = 'restored') as restored,
       count(*) filter (where property = 'account_enabled' and new_value = 'true') as enabled,
       count(*) filter (where property = 'account_enabled' and new_value = 'false') as disabled
  from analytics.changes
 where connection_id = 1 and resource = 'users' and occurred_at > now() - interval '1 month'
   and (change <> 'updated' or property = 'account_enabled')
 group by day order by day;
