-- Since when is the history of each resource without a gap?
select resource, greatest(history_begins_at, last_gap_ended_at) as without_gap_since
  from analytics.coverage
 where connection_id = 1 and history_begins_at is not null
   and (last_gap_began_at is null or last_gap_ended_at is not null)
 order by resource;
