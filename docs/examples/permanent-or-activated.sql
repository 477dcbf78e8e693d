-- Which privileged roles are assigned for ever, until a moment, activated, or only eligible?
select role_name, holder_name,
       case when is_permanent then 'for ever' when state = 'assigned' then 'until a moment'
            else state end as how,
       ends_at
  from analytics.effective_role_holders
 where connection_id = 1 and is_privileged and depth = 0
 order by role_name, holder_name, how;
