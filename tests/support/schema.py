"""Renders the schema of a database as lines, to compare two databases."""

from sqlalchemy import text

from models.base import SCHEMAS
from worker.store.engine import Database

_OURS = "n.nspname = any(cast(:schemas as text[]))"
_PARTS = {
    "column": f"""
        select n.nspname, c.relname, c.relkind, a.attname, format_type(a.atttypid, a.atttypmod),
               a.attnotnull, pg_get_expr(d.adbin, d.adrelid), a.attstorage,
               col_description(c.oid, a.attnum)
          from pg_attribute a
          join pg_class c on c.oid = a.attrelid and c.relkind in ('r', 'p', 'v')
          join pg_namespace n on n.oid = c.relnamespace
          left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
         where a.attnum > 0 and not a.attisdropped and {_OURS}
    """,
    "table": f"""
        select n.nspname, c.relname, obj_description(c.oid, 'pg_class')
          from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where c.relkind in ('r', 'p') and {_OURS}
    """,
    "index": f"""
        select pg_get_indexdef(i.indexrelid), i.indisvalid, i.indisready
          from pg_index i
          join pg_class c on c.oid = i.indexrelid
          join pg_namespace n on n.oid = c.relnamespace
         where {_OURS}
    """,
    "constraint": f"""
        select c.conrelid::regclass, c.conname, pg_get_constraintdef(c.oid)
          from pg_constraint c join pg_namespace n on n.oid = c.connamespace where {_OURS}
    """,
    "view": f"""
        select n.nspname, c.relname, pg_get_viewdef(c.oid)
          from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where c.relkind = 'v' and {_OURS}
    """,
}


def describe_schema(database: Database) -> set[str]:
    """A line for each thing in our schemas."""
    lines: set[str] = set()
    with database.open_transaction() as db:
        for kind, query in _PARTS.items():
            rows = db.execute(text(query), {"schemas": list(SCHEMAS)})
            lines |= {" ".join(map(str, (kind, *row))) for row in rows}
    return lines
