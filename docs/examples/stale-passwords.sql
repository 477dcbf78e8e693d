-- Which enabled accounts that are not synchronized have a password older than a year, or one that never expires?
select organization, user_principal_name, last_password_change_date_time, password_never_expires
  from analytics.users
 where connection_id = 1 and account_enabled and not on_premises_sync_enabled and not is_guest
   and (password_never_expires or last_password_change_date_time < now() - interval '1 year')
 order by last_password_change_date_time nulls first, user_principal_name;
