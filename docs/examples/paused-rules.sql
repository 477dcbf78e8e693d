-- Which dynamic groups have a paused rule, so that their members no longer change?
select organization, display_name, membership_rule
  from analytics.groups
 where is_dynamic and membership_rule_processing_state = 'Paused'
 order by organization, display_name;
