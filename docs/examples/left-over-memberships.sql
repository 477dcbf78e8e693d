-- Who changed department in the last month, and which memberships do they have from before?
select u.display_name, h.old_value as old_department, h.new_value as new_department, m.group_name
  from analytics.changes h
  join analytics.users u on u.connection_id = h.connection_id and u.id::text = h.object_id
  join analytics.group_members m on m.connection_id = u.connection_id and m.member_id = u.id
 where h.connection_id = 1 and h.resource = 'users' and h.property = 'department'
   and h.occurred_at > now() - interval '1 month'
   and (m.since is null or m.since < h.occurred_at)
 order by u.display_name, m.group_name;
