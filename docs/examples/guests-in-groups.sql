-- Which guests are direct members of which groups, and have they redeemed their invitation?
select g.display_name as guest, g.home_domain, g.is_pending, m.group_name, m.at_least_since
  from analytics.guests g
  join analytics.group_members m on m.connection_id = g.connection_id and m.member_id = g.id
 where g.connection_id = 1
 order by guest, m.group_name;
