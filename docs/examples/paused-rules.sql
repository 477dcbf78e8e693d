-- Of which dynamic groups is the rule paused, so that nobody joins or leaves any more?
select organization, display_name, membership_rule
  from analytics.groups
 where is_dynamic and membership_rule_processing_state = 'Paused'
 order by organization, display_name;
