-- Who are the direct members of the group Licensed by group, and since when?
select member_type, coalesce(user_principal_name, member_name) as member, since, at_least_since
  from analytics.group_members
 where connection_id = 1 and group_name = 'Licensed by group'
 order by member_type, member;
