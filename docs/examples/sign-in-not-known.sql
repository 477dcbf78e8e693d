-- Of which enabled accounts does Graph know no sign-in? (It keeps them since April 2020 and not of every kind: never is not proved.)
select u.display_name, u.user_principal_name, u.created_date_time
  from analytics.users u
 where u.connection_id = 1 and u.account_enabled
   and not exists (select from analytics.sign_in_activity s
                    where s.connection_id = u.connection_id and s.user_id = u.id)
   and exists (select from analytics.freshness f
                where f.connection_id = u.connection_id and f.resource = 'sign_in_activity'
                  and f.fresh_at is not null)
 order by u.user_principal_name;
