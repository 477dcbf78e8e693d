"""SQL grants for a role that reads the mirror: directory, views, samples and change events."""

from typing import Final

import sqlalchemy as sa
from sqlalchemy import text

from migrations.walls.needs import Grant, load_needs
from migrations.walls.roles import quote
from models.base import ANALYTICS, DIRECTORY, EVENTS, HISTORY
from worker.core.errors import InvalidInput, NotFound
from worker.store.engine import get_driver_connection

_GRANTED_WHOLE: Final = (ANALYTICS, DIRECTORY, EVENTS, HISTORY)

_FACTS: Final = text("""
    select quote_ident(r.rolname) as reader, quote_ident(o.rolname) as owner,
           quote_ident(current_database()) as database,
           pg_has_role(r.oid, o.oid, 'member') as is_owner
      from pg_class t join pg_roles o on o.oid = t.relowner
      left join pg_roles r on r.rolname = :role
     where t.oid = 'events.change_events'::regclass
""")

_GRANTS: Final = """\
-- What the role {reader} may read of Tenant Mirror: schemas directory, analytics and history with
-- the tables and views that later releases add, and the change events. Nothing of schema sync but
-- what the views show, and none of the tables about sinks. Run it as {owner} or as a
-- superuser; it can be run again.
begin;
revoke all on all tables in schema sync, events from {reader};
revoke all on schema sync from {reader};
alter default privileges for role {owner} in schema events revoke select on tables from {reader};
grant connect on database {database} to {reader};
grant usage on schema directory, analytics, history, events to {reader};
grant select on all tables in schema directory, analytics, history to {reader};
-- The table of all months: a partition needs no right of its own.
grant select on events.change_events, events.epochs to {reader};
-- Columns that the views use. They cannot be read but by a view, without USAGE on their schema.
{below}
alter default privileges for role {owner} in schema directory, analytics, history
    grant select on tables to {reader};
commit;
"""


def render_reader_grants(db: sa.Connection, role: str) -> str:
    """Return SQL that grants a role a reader's rights and revokes those of earlier releases.

    Raises NotFound if the role does not exist, InvalidInput if it is a superuser or owner,
    whose rights cannot be limited.
    """
    facts = db.execute(_FACTS, {"role": role}).one()
    if facts.reader is None:
        raise NotFound(
            f"Postgres has no role '{role}'; create it first, for example with "
            f"'create role {quote(role)} login', and name it here"
        )
    if facts.is_owner:
        raise InvalidInput(
            f"the role '{role}' is a superuser, or it is or belongs to {facts.owner}, which owns "
            "the tables: it reads everything, secrets included. Name another role"
        )
    below = (
        Grant(role, place, columns).render()
        for place, columns in load_needs(get_driver_connection(db)).items()
        if place.split(".")[0] not in _GRANTED_WHOLE
    )
    return _GRANTS.format(
        reader=facts.reader,
        owner=facts.owner,
        database=facts.database,
        below="\n".join(f"{one};" for one in below),
    )
