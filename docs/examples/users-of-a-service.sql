-- Who has a service through a licence, and not disabled: SANDBOX_2_PLAN_0, for example?
select l.user_principal_name, l.account_enabled, l.product_name
  from analytics.license_plans s
  join analytics.user_licenses l on l.connection_id = s.connection_id and l.sku_id = s.sku_id
  left join analytics.user_disabled_plans d
    on d.connection_id = l.connection_id and d.user_id = l.user_id and d.sku_id = l.sku_id
   and d.service_plan_id = s.service_plan_id
 where s.connection_id = 1 and s.service_plan_name = 'SANDBOX_2_PLAN_0' and d.user_id is null
 order by l.user_principal_name, l.product_name;
