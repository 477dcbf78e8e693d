-- What changed about one person in the last 90 days, and what did they gain or lose?
select h.occurred_at, h.sentence
  from analytics.users u
  join analytics.changes h
    on h.connection_id = u.connection_id and h.occurred_at > now() - interval '90 days'
   and (h.object_id = u.id::text or h.principal_id = u.id::text)
 where u.connection_id = 1 and u.user_principal_name = 'anna.berg@contoso.example'
 order by h.seq, h.property;
