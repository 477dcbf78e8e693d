-- A sheet for a review: who is in which group, since when, with last sign-in, owners of the group and manager to ask?
select m.group_name, m.user_principal_name, u.account_enabled, m.since, m.at_least_since,
       s.last_sign_in_date_time, a.manager_user_principal_name,
       (select string_agg(o.user_principal_name, ', ' order by o.user_principal_name)
          from analytics.group_owners o
         where o.connection_id = m.connection_id and o.group_id = m.group_id) as owners
  from analytics.group_members m
  join analytics.users u on u.connection_id = m.connection_id and u.id = m.member_id
  left join analytics.managers a on a.connection_id = u.connection_id and a.user_id = u.id
  left join analytics.sign_in_activity s on s.connection_id = u.connection_id and s.user_id = u.id
 where m.connection_id = 1
 order by m.group_name, m.group_id, m.user_principal_name;
