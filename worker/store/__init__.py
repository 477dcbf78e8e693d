"""Everything that is written to Postgres, and the only place besides ``events`` that holds SQL."""
