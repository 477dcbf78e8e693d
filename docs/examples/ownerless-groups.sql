-- Which groups have no owner, or only owners who cannot sign in?
select g.display_name, count(o.owner_id) as owners
  from analytics.groups g
  left join analytics.group_owners o on o.connection_id = g.connection_id and o.group_id = g.id
 where g.connection_id = 1
 group by g.id, g.display_name
having not coalesce(bool_or(o.owner_account_enabled), false)
 order by g.display_name, g.id;
