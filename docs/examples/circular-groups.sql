-- Which groups are members of themselves, through others?
select group_name, through_group_name
  from analytics.effective_group_members
 where connection_id = 1 and member_type = 'group' and member_id = group_id
 order by group_name;
