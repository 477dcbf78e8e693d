-- Everyone in a group and through which chain: who is in Everyone, for example?
select m.member_name, m.member_type, m.depth, m.ways, m.path
  from analytics.groups g
 cross join lateral analytics.members_of(g.connection_id, g.id) m
 where g.connection_id = 1 and g.display_name = 'Everyone' and m.member_type = 'user'
 order by m.member_name;
