-- What is bought, in use and assigned of each product, and how many of those cannot sign in or are guests?
select organization, product_name, capability_status, bought_units, consumed_units, free_units,
       assigned_users, assigned_disabled_users, assigned_guests, fresh_at
  from analytics.license_summary
 order by organization, product_name, sku_id;
