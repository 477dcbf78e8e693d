-- Which groups gained the most members in the last week?
select target_id as group_id, target_name as group_name,
       count(*) filter (where change = 'gained') as joined,
       count(*) filter (where change = 'lost') as left_it
  from analytics.access_changes(1, now() - interval '7 days', now())
 where resource = 'group_members'
 group by target_id, target_name
 order by joined desc, group_name limit 20;
