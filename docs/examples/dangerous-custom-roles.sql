-- Which roles of the organization's own allow privileged actions, and who holds them?
select d.display_name as role, d.counted_by, h.holder_name, h.state
  from analytics.role_definitions d
  left join analytics.effective_role_holders h
    on h.connection_id = d.connection_id and h.role_definition_id = d.id
 where d.connection_id = 1 and not d.is_built_in and d.is_privileged
 order by role, holder_name;
