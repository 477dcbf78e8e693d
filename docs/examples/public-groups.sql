-- Which Microsoft 365 groups are public, so that everybody of the organization can join and read, and how many members have they?
select g.display_name, g.mail, count(m.member_id) as members
  from analytics.groups g
  left join analytics.group_members m
    on m.connection_id = g.connection_id and m.group_id = g.id
 where g.connection_id = 1 and g.is_microsoft_365 and g.visibility = 'Public'
 group by g.id, g.display_name, g.mail
 order by members desc, g.display_name;
