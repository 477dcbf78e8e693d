-- Who is licensed directly, who by a group, and who by both?
select product_name, licensed_through, count(*) as users
  from analytics.user_licenses
 where connection_id = 1
 group by product_name, licensed_through
 order by product_name, licensed_through;
