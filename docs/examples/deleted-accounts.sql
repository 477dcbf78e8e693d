-- Which accounts were deleted in the last 30 days, on which evidence, and since when?
select organization, display_name, user_principal_name, deleted_at, deleted_reason,
       case when deleted_reason <> 'permanently_deleted' then deleted_at + interval '30 days' end
           as can_be_restored_until
  from analytics.deleted_users
 where deleted_at > now() - interval '30 days'
 order by deleted_at desc;
