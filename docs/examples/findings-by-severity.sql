-- What should be looked at first, of all customers?
select organization, severity, code, count(*) as findings, min(sentence) as example
  from analytics.findings
 group by organization, severity_rank, severity, code
 order by organization, severity_rank, code;
