-- Which members are reached through the most groups?
select group_name, member_name, depth
  from analytics.effective_group_members
 where connection_id = 1 and member_type = 'user' and depth >= 2
 order by depth desc, group_name, member_name;
