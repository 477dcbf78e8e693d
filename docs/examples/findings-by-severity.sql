-- What should be looked at first, of all customers?
select organization, severity, code, count(*) as findings, min(sentence) as example
  from analytics.findings
 group by organization, severity, code
 order by organization, array_position(array['high', 'medium', 'low'], severity), code;
