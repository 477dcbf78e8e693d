"""Facts about the database server and our role, for ``doctor``."""

from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from sqlalchemy import text

from models.base import DIRECTORY, EVENTS, SYNC
from worker.store.engine import is_own_session

_FACTS: Final = text("""
    select current_setting('server_version') as version,
           current_setting('server_version_num')::int as version_number,
           pg_encoding_to_char(d.encoding) as encoding, current_user as role,
           pg_is_in_recovery() as is_standby,
           extract(epoch from clock_timestamp())::float8 as now
      from pg_database d where d.datname = current_database()
""")
_FORBIDDEN: Final = text("""
    select count(*)
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where n.nspname = any (:schemas) and c.relkind in ('r', 'p') and not c.relispartition
       and not has_table_privilege(c.oid, 'select')
""")


@dataclass(frozen=True)
class DatabaseServerFacts:
    """What a connection to the mirror's database says about its server."""

    version: str
    version_number: int
    encoding: str
    role: str
    is_standby: bool
    now: float
    """Its clock, in Unix seconds."""
    forbidden_tables: int
    """Tables of the mirror that the role may not read."""
    has_pooler: bool
    """Whether a pooler shares its sessions among clients."""


def load_server_facts(db: sa.Connection) -> DatabaseServerFacts:
    row = db.execute(_FACTS).mappings().one()
    forbidden = db.execute(_FORBIDDEN, {"schemas": [DIRECTORY, EVENTS, SYNC]}).scalar_one()
    return DatabaseServerFacts(
        **row, forbidden_tables=int(forbidden), has_pooler=not is_own_session(db)
    )
