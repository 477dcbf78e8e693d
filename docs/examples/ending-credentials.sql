-- Which client secrets and certificates end in the next 60 days, and of which applications?
select organization, application_name, kind, name, ends_at
  from analytics.application_credentials
 where connection_id = 1 and not is_microsoft
   and ends_at between now() and now() + interval '60 days'
 order by ends_at, application_name;
