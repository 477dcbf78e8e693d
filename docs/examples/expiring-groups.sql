-- Which groups expire within a year, and who could renew them?
select g.display_name, g.expiration_date_time,
       string_agg(coalesce(o.user_principal_name, o.owner_name), ', '
                  order by o.user_principal_name, o.owner_name) as owners
  from analytics.groups g
  left join analytics.group_owners o on o.connection_id = g.connection_id and o.group_id = g.id
 where g.connection_id = 1 and g.expiration_date_time < now() + interval '1 year'
 group by g.id, g.display_name, g.expiration_date_time
 order by g.expiration_date_time, g.display_name;
