-- Which accounts that cannot sign in still have licences, and which?
select organization, display_name, user_principal_name,
       string_agg(coalesce(product_name, sku_id::text), ', ' order by product_name, sku_id) as products
  from analytics.user_licenses
 where not account_enabled
 group by connection_id, organization, user_id, display_name, user_principal_name
 order by organization, user_principal_name;
