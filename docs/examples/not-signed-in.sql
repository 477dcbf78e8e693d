-- Which enabled accounts have not signed in for 90 days, by all that Graph knows? (Those of whom it knows nothing are not in it.)
select user_name, user_principal_name, is_guest, last_seen_at
  from analytics.sign_in_activity
 cross join lateral (
       select greatest(last_sign_in_date_time, last_non_interactive_sign_in_date_time,
                       last_successful_sign_in_date_time)) as seen (last_seen_at)
 where connection_id = 1 and account_enabled and last_seen_at < now() - interval '90 days'
 order by last_seen_at;
