-- From which home domains do guests come, and how many never redeemed their invitation?
select organization, home_domain, count(*) as guests, count(*) filter (where is_pending) as pending
  from analytics.guests
 group by connection_id, organization, home_domain
 order by organization, guests desc, home_domain;
