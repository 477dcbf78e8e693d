-- Which mail addresses does more than one account of a customer have?
select organization, address, count(distinct user_id) as accounts,
       string_agg(distinct user_principal_name, ', ' order by user_principal_name) as who
  from analytics.user_mail_addresses
 group by connection_id, organization, address
having count(distinct user_id) > 1
 order by organization, address;
