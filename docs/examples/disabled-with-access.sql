-- Which disabled accounts still hold licences, memberships or roles, and what?
select u.display_name, u.license_count,
       (select count(*) from analytics.group_members m
         where m.connection_id = u.connection_id and m.member_id = u.id) as groups,
       (select string_agg(distinct h.role_name, ', ') from analytics.effective_role_holders h
         where h.connection_id = u.connection_id and h.holder_id = u.id) as roles
  from analytics.users u
 where u.connection_id = 1 and not u.account_enabled
 order by u.display_name;
