-- Every group that a user is in, directly or not: which are Fay's?
select g.group_name, g.depth, g.ways, g.path
  from analytics.users u
 cross join lateral analytics.groups_of(u.connection_id, u.id) g
 where u.connection_id = 1 and u.user_principal_name = 'fay@alpine.example'
 order by g.group_name;
