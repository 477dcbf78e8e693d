-- What changed in who has access (memberships, owners, roles, permissions) in the last 7 days?
select occurred_at, change, principal_name, target_name, sentence
  from analytics.access_changes(1, now() - interval '7 days', now())
 order by seq;
