-- Which licences belong to accounts that have not signed in for 90 days, by all that Graph knows?
select l.product_name, count(*) as licences
  from analytics.user_licenses l
  join analytics.sign_in_activity s on s.connection_id = l.connection_id and s.user_id = l.user_id
 where l.connection_id = 1
   and greatest(s.last_sign_in_date_time, s.last_non_interactive_sign_in_date_time,
                s.last_successful_sign_in_date_time) < now() - interval '90 days'
 group by l.product_name
 order by licences desc, l.product_name;
