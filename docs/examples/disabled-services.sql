-- Which services of which products are disabled for users who have the product, and for how many?
select organization, product_name, coalesce(service_plan_name, service_plan_id::text) as service,
       count(*) as users
  from analytics.user_disabled_plans
 group by organization, product_name, service
 order by organization, product_name, service;
