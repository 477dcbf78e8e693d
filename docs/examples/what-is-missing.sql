-- What is not, or not completely, mirrored of which customer, why, and which permission would help?
select organization, resource, phase, why, fresh_at,
       case when needs_permission then permission end as grant_this
  from analytics.coverage
 where not is_complete or is_late or held_deletions > 0
 order by organization, resource;
