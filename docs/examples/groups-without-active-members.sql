-- Which groups are empty, or have only members that are disabled or guests? (Those that hide all their members are not in it.)
select g.display_name, count(m.member_id) as members
  from analytics.groups g
  left join analytics.effective_group_members m
    on m.connection_id = g.connection_id and m.group_id = g.id and m.member_type <> 'group'
  left join analytics.users u on u.connection_id = m.connection_id and u.id = m.member_id
 where g.connection_id = 1
 group by g.connection_id, g.id, g.display_name, g.visibility
having count(m.member_id) filter (where u.id is null or u.account_enabled and not u.is_guest) = 0
   and (count(m.member_id) > 0 or g.visibility is distinct from 'HiddenMembership')
 order by g.display_name;
