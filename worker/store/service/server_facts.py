"""Facts about the database server and our role, for ``doctor``."""

from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from sqlalchemy import text

from migrations.views.install import are_views_current, list_missing_views
from models.base import DIRECTORY, EVENTS, HISTORY, SYNC
from worker.store.engine import is_own_session

_FACTS: Final = text("""
    select current_setting('server_version') as version,
           current_setting('server_version_num')::int as version_number,
           pg_encoding_to_char(d.encoding) as encoding, current_user as role,
           pg_is_in_recovery() as is_standby,
           current_setting('fsync') = 'on' as has_fsync,
           current_setting('synchronous_commit') <> 'off' as waits_for_disk,
           current_setting('transaction_read_only') = 'on' as is_read_only,
           extract(epoch from clock_timestamp())::float8 as now
      from pg_database d where d.datname = current_database()
""")
# Rows of the audit are only ever added, and migrations alone change the version of the schema.
_RIGHTS: Final = text("""
    select count(*) filter (where not has_table_privilege(oid, 'select')) as unreadable,
           count(*) filter (where not has_table_privilege(oid, 'insert')
                               or not only_grows and not (has_table_privilege(oid, 'update')
                                                          and has_table_privilege(oid, 'delete')))
               as unwritable,
           count(*) filter (where relkind = 'p' and not pg_has_role(relowner, 'usage')) as foreign,
           count(*) filter (where row_security_active(oid)) as walled
      from (select c.oid, c.relkind, c.relowner,
                   (n.nspname, c.relname) = ('sync', 'audit') as only_grows
              from pg_class c join pg_namespace n on n.oid = c.relnamespace
             where n.nspname = any (:schemas) and c.relkind in ('r', 'p') and not c.relispartition
               and (n.nspname, c.relname) <> ('sync', 'schema_version')) known
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
    is_read_only: bool
    """Whether the role's transactions are read-only, by a setting or as it is a standby."""
    unreadable_tables: int
    """Tables of the mirror that the role may not read."""
    unwritable_tables: int
    """Tables of the mirror that the role may not write to as the service does."""
    foreign_partitioned: int
    """Partitioned tables of which the role is no owner, so that it cannot add partitions."""
    walled_tables: int
    """Tables whose row-level security applies to the role, as it is not their owner."""
    has_pooler: bool
    """Whether a pooler shares its sessions among clients."""
    has_fsync: bool
    """Whether it forces what it writes to its disk."""
    waits_for_disk: bool
    """Whether a commit of the role ends after it is on the disk (``synchronous_commit``)."""
    missing_views: tuple[str, ...]
    """Views and functions for people that are not there."""
    are_views_current: bool
    """Whether the views were last made as this release declares them."""


def load_server_facts(db: sa.Connection) -> DatabaseServerFacts:
    row = db.execute(_FACTS).mappings().one()
    rights = db.execute(_RIGHTS, {"schemas": [DIRECTORY, EVENTS, HISTORY, SYNC]}).one()
    return DatabaseServerFacts(
        **row,
        unreadable_tables=rights.unreadable,
        unwritable_tables=rights.unwritable,
        foreign_partitioned=rights.foreign,
        walled_tables=rights.walled,
        has_pooler=not is_own_session(db),
        missing_views=tuple(list_missing_views(db)),
        are_views_current=are_views_current(db),
    )
