"""Planner statistics of tables that a first load has filled.

Autovacuum brings them at its next look at the database, which is a minute later by default. Until
then Postgres takes a large table for a small one, and questions of analysts about it take many
times as long.
"""

from collections.abc import Sequence

from sqlalchemy import Table, text

from worker.store.engine import Database

# The size is known at once, where the counts of changed rows reach the others seconds later. A
# table of another owner cannot be analyzed, and each attempt would write a warning to the log.
_GROWN = text("""
    select format('%I.%I', n.nspname, c.relname)
      from pg_class c
      join pg_namespace n on n.oid = c.relnamespace
     where c.oid = any(cast(:tables as regclass[]))
       and pg_relation_size(c.oid) / current_setting('block_size')::int > c.relpages * 1.1
       and pg_has_role(c.relowner, 'usage')
     order by 1
""")


def analyze_grown_tables(database: Database, tables: Sequence[Table]) -> None:
    """Analyze the tables that are a tenth larger than Postgres knows, and are ours.

    One that another session vacuums, analyzes or alters is left out: nobody waits for statistics.
    """
    with database.open_transaction() as db:
        names = [table.fullname for table in tables]
        grown = db.execute(_GROWN, {"tables": names}).scalars().all()
        if grown:
            db.execute(text(f"analyze (skip_locked) {', '.join(grown)}"))
