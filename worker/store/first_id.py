"""Find where a time begins in a table whose ids grow with its times, which have no index."""


def render_first_id(table: str, column: str, moment: str) -> str:
    """Return SQL for the first id of a table whose ``column`` is not before a moment.

    It is one more than the last id if there is none, and null if the table is empty. A binary
    search finds it: some twenty look-ups by the primary key.
    """
    return f"""(
        with recursive search (low, high) as (
            select min(id), max(id) + 1 from {table}
             union all
            select case when r.early then middle + 1 else low end,
                   case when r.early then high else middle end
              from (select low, high, (low + high) / 2 as middle from search where low < high) s
             cross join lateral (
                   select {column} < {moment} as early
                     from {table} where id >= s.middle order by id limit 1) r)
        select low from search where low >= high)"""
