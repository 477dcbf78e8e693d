-- Whose manager cannot sign in any more?
select user_name, user_principal_name, manager_name, manager_user_principal_name
  from analytics.managers
 where connection_id = 1 and user_account_enabled and not manager_account_enabled
 order by manager_user_principal_name, user_principal_name;
