-- Which accounts that belong to no person (shared, room or resource accounts) can sign in?
select organization, display_name, user_principal_name
  from analytics.users
 where is_resource_account and account_enabled
 order by organization, user_principal_name;
