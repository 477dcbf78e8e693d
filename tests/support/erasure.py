"""What is still known about an erased object, and what the mirror has to be without it."""

import json

from sqlalchemy import Connection, text

from models.resources import ERASABLE_REFERENCES, RESOURCES
from sandbox.tenant import Tenant, build_row
from tests.support.mirror import Mirror, read_live_rows, verify_connection
from worker.store.engine import Database, get_driver_connection


def list_columns(db: Connection) -> dict[str, list[str]]:
    """By table, each column of ours that might hold a name or an id, whatever the code believes."""
    statement = text("""
        select format('%I.%I', n.nspname, c.relname), array_agg(quote_ident(a.attname))
          from pg_class c join pg_namespace n on n.oid = c.relnamespace
          join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
          join pg_type t on t.oid = a.atttypid
         where c.relkind in ('r', 'p') and not c.relispartition
           and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
           and (t.typcategory in ('S', 'A', 'U') or t.typname in ('uuid', 'json', 'jsonb', 'bytea'))
         group by 1 order by 1
    """)
    return {str(table): list(columns) for table, columns in db.execute(statement)}


def find_traces(database: Database, names: list[str]) -> dict[str, int]:
    """Where something still names a person: column and number of rows."""
    patterns = [f"%{name.lower()}%" for name in names]
    left: dict[str, int] = {}
    with database.open_transaction() as db, get_driver_connection(db).cursor() as cursor:
        for table, columns in list_columns(db).items():
            counts = ", ".join(
                f"count(*) filter (where lower({column}::text) like any(%(patterns)s::text[]))"
                for column in columns
            )
            found = cursor.execute(
                f"select {counts} from {table}", {"patterns": patterns}
            ).fetchone()
            assert found is not None
            left |= {
                f"{table}.{column}": number
                for column, number in zip(columns, found, strict=True)
                if number
            }
    return left


def truth_without(tenant: Tenant, *gone: str) -> dict[str, list[str]]:
    """What the mirror is to hold of a tenant some of whose objects are erased."""
    held = {}
    for resource in RESOURCES:
        rows = [build_row(resource, one) for one in tenant.iterate_live(resource)]
        named = {"id", *(column.name for column in ERASABLE_REFERENCES[resource])}
        held[resource] = sorted(
            json.dumps(row, sort_keys=True)
            for row in rows
            if not {row.get(name) for name in named} & {*gone}
        )
    return held


def assert_exact_without(mirror: Mirror, tenant: Tenant, *gone: str) -> None:
    stored = {
        resource: sorted(
            json.dumps(row, sort_keys=True) for row in read_live_rows(mirror.database, resource)
        )
        for resource in RESOURCES
    }
    assert stored == truth_without(tenant, *gone)
    assert verify_connection(mirror.database).problems == []
