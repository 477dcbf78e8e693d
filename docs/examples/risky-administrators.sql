-- Which privileged users are guests, synchronized from Active Directory, disabled, or have licences?
select display_name, roles, is_guest, on_premises_sync_enabled, account_enabled, license_count
  from analytics.privileged_users
 where connection_id = 1
   and (is_guest or on_premises_sync_enabled or not account_enabled or license_count > 0)
 order by display_name;
