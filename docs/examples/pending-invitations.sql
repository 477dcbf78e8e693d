-- Which invitations have not been redeemed for 30 days, and for how many days?
select display_name, mail, home_domain, pending_since,
       extract(day from now() - pending_since)::integer as days
  from analytics.guests
 where connection_id = 1 and pending_since < now() - interval '30 days'
 order by pending_since;
