-- Which groups assign which products, and how many services of these do they leave out?
select group_name, product_name, disabled_plan_count
  from analytics.group_licenses
 where connection_id = 1
 order by group_name, product_name;
