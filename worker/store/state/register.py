"""Tells the database which resources there are, after each migration.

A resource that a release adds would else be due everywhere at once, and keep each connection on the
queue of first loads, behind those of new customers.
"""

from datetime import timedelta
from typing import Final

import sqlalchemy as sa
from sqlalchemy import text

from models.resources import RESOURCES

FIRST_LOOK_SPREAD: Final = timedelta(days=1)
"""Time over which the first reads of a new resource are spread, over all connections."""

_HAS_REGISTER = text("""
    select exists (select from information_schema.columns
                    where table_schema = 'sync' and table_name = 'resources'
                      and column_name = 'is_optional')
""")
_HAS_NO_TABLE = "to_regclass('directory.' || quote_ident({column})) is null"
_FORGET = (
    text(f"delete from sync.streams where {_HAS_NO_TABLE.format(column='resource')}"),
    text(f"delete from sync.resources where {_HAS_NO_TABLE.format(column='name')}"),
)
_ADD = text(f"""
    insert into sync.resources (name, stream, relation, is_optional)
    select name, stream, nullif(relation, ''), is_optional
      from unnest(cast(:names as text[]), cast(:streams as text[]), cast(:relations as text[]),
                  cast(:optional as boolean[])) as given (name, stream, relation, is_optional)
     where not {_HAS_NO_TABLE.format(column="name")}
        on conflict (name) do update
       set stream = excluded.stream, relation = excluded.relation,
           is_optional = excluded.is_optional
     where (resources.stream, resources.relation, resources.is_optional)
           is distinct from (excluded.stream, excluded.relation, excluded.is_optional)
 returning name
""")
_SPREAD = text("""
    insert into sync.streams (connection_id, resource, due_at, first_due_at)
    select c.id, added.name, moment.at, moment.at
      from sync.connections c
     cross join unnest(cast(:added as text[])) as added (name)
     cross join lateral (
           select statement_timestamp() + make_interval(secs => :seconds
                  * (hashint8extended(c.id, 0) & 2147483647) / 2147483648.0) as at) as moment
     where exists (select from sync.streams s
                    where s.connection_id = c.id and s.first_complete_at is not null)
        on conflict (connection_id, resource) do nothing
""")


def register_resources(db: sa.Connection) -> None:
    """Register the resources that have a table, and spread the first look at new ones over a day.

    The moment follows from the connection, so that all new resources of one are read together.
    Connections that were never read are not concerned: their first load covers everything. Streams
    whose table is gone after a downgrade are forgotten. Doing it again changes nothing.
    """
    if not db.execute(_HAS_REGISTER).scalar_one():
        return
    for statement in _FORGET:
        db.execute(statement)
    every = RESOURCES.values()
    values = {
        "names": list(RESOURCES),
        "streams": [one.parent or one.name for one in every],
        "relations": [one.relation for one in every],
        "optional": [one.is_optional for one in every],
    }
    found = db.execute(_ADD, values).scalars()
    added = [name for name in found if not RESOURCES[name].is_edge]
    if added:
        db.execute(_SPREAD, {"added": added, "seconds": FIRST_LOOK_SPREAD.total_seconds()})
