-- How many enabled members, guests, cloud-only and synchronized accounts are there, by customer, department and country?
select organization, department, country,
       count(*) filter (where account_enabled) as enabled,
       count(*) filter (where account_enabled and not is_guest) as enabled_members,
       count(*) filter (where account_enabled and is_guest) as enabled_guests,
       count(*) filter (where not on_premises_sync_enabled) as cloud_only,
       count(*) filter (where on_premises_sync_enabled) as synchronized
  from analytics.users
 group by connection_id, organization, department, country
 order by organization, department, country;
