"""Repair of indexes that an interrupted ``create index concurrently`` left invalid.

That statement waits for every older transaction. If it is ended while waiting, an invalid index
remains: writers maintain it, no query uses it, and ``if not exists`` counts it as existing.
"""

from collections.abc import Collection

import sqlalchemy as sa
from sqlalchemy import text

from models.base import SCHEMAS

_INVALID = text("""
    select n.nspname, c.relname
      from pg_index i
      join pg_class c on c.oid = i.indexrelid
      join pg_namespace n on n.oid = c.relnamespace
     where not i.indisvalid and c.relkind = 'i' and n.nspname = any(cast(:schemas as text[]))
       and regexp_replace(c.relname, '_cc(new|old)[0-9]*$', '') = any(cast(:names as text[]))
     order by c.relname desc
""")
"""Includes the temporary indexes that ``reindex concurrently`` creates and finally drops."""


def drop_invalid_index(db: sa.Connection, schema: str, name: str) -> None:
    """Drop what an interrupted build of an index left. Must run outside a transaction."""
    for left in _find_invalid_indexes(db, [schema], [name]):
        db.execute(text(f"drop index concurrently if exists {left}"))


def rebuild_invalid_indexes(db: sa.Connection, names: Collection[str]) -> list[str]:
    """Rebuild the given indexes that are invalid, and return their names.

    Must run outside a transaction. They are not dropped first: a process that is killed in between
    would leave no index.
    """
    rebuilt = []
    for left in _find_invalid_indexes(db, SCHEMAS, names):
        if left.partition(".")[2] in names:
            db.execute(text(f"reindex index concurrently {left}"))
            rebuilt.append(left)
        else:
            db.execute(text(f"drop index concurrently if exists {left}"))
    return rebuilt


def _find_invalid_indexes(
    db: sa.Connection, schemas: Collection[str], names: Collection[str]
) -> list[str]:
    """Return invalid indexes as ``schema.name``, leftovers of a rebuild before their index."""
    values = {"schemas": list(schemas), "names": list(names)}
    return [f"{schema}.{name}" for schema, name in db.execute(_INVALID, values)]
