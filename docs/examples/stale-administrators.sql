-- Which privileged users have not signed in for 90 days, as far as that is known?
select display_name, roles, last_successful_sign_in_date_time
  from analytics.privileged_users
 where connection_id = 1
   and last_successful_sign_in_date_time < now() - interval '90 days'
 order by last_successful_sign_in_date_time;
