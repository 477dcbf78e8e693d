-- Which accounts were deleted in the last 30 days, on which evidence, and since when?
select u.connection_id, u.display_name, u.user_principal_name, u.deleted_at, u.deleted_reason,
       case when u.deleted_reason <> 'permanently_deleted' then u.deleted_at + interval '30 days' end
           as can_be_restored_until
  from directory.users u
 where u.deleted_at > now() - interval '30 days'
 order by u.deleted_at desc;
