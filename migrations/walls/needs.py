"""What a role needs below the views of schema ``analytics``, by the catalogue.

A view is read with the rights of who reads it. The catalogue knows which columns of which tables
each view uses, so that none can be forgotten and none is granted in vain. Without USAGE on the
schemas below, a right on a column serves the views and nothing else.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import psycopg

from migrations.views.view import SCHEMA
from migrations.walls.policies import MAPPING, WalledTable
from migrations.walls.roles import GUARDED, ReaderKind, quote
from models.base import ANALYTICS_PSEUDONYMOUS, SCHEMAS

Driver: TypeAlias = psycopg.Connection[Any]

_OURS: Final = ", ".join(f"'{one}'" for one in SCHEMAS)
_USES: Final = f"""
    place as (
        select c.oid, c.relkind, c.relacl, c.relowner, n.nspname as schema,
               n.nspname in ({_OURS}) as is_ours,
               quote_ident(n.nspname) || '.' || quote_ident(c.relname) as name
          from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where c.relkind in ('r', 'p', 'v', 'm') and n.nspname <> 'information_schema'
           and n.nspname !~ '^pg_'),
    calls as (
        select d.classid as by_class, d.objid as by_oid, p.oid
          from pg_depend d
          join pg_proc p on d.refclassid = 'pg_proc'::regclass and p.oid = d.refobjid
           and p.pronamespace = '{SCHEMA}'::regnamespace
         union
        select c.by_class, c.by_oid, p.oid
          from calls c
          join pg_depend d on d.classid = 'pg_proc'::regclass and d.objid = c.oid
          join pg_proc p on d.refclassid = 'pg_proc'::regclass and p.oid = d.refobjid
           and p.pronamespace = '{SCHEMA}'::regnamespace),
    used as (
        select r.ev_class as user_oid, d.refobjid as oid, d.refobjsubid as number
          from pg_rewrite r
          join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid
         where d.refclassid = 'pg_class'::regclass and d.refobjid <> r.ev_class
        union all
        select p.oid, d.refobjid, d.refobjsubid
          from pg_proc p
          join pg_depend d on d.classid = 'pg_proc'::regclass and d.objid = p.oid
         where d.refclassid = 'pg_class'::regclass
           and p.pronamespace = '{SCHEMA}'::regnamespace
        union all
        -- What a view uses by a function, which may call others.
        select r.ev_class, d.refobjid, d.refobjsubid
          from pg_rewrite r
          join calls f on f.by_class = 'pg_rewrite'::regclass and f.by_oid = r.oid
          join pg_depend d on d.classid = 'pg_proc'::regclass and d.objid = f.oid
         where d.refclassid = 'pg_class'::regclass),
    -- Who uses no column must still be able to read one.
    uses as (
        select distinct u.user_oid, u.oid, a.attname::text as column
          from used u
          join place p on p.oid = u.oid and p.is_ours
          join pg_attribute a on a.attrelid = u.oid
           and a.attnum = case when u.number <> 0 then u.number
                               else (select min(f.attnum) from pg_attribute f
                                      where f.attrelid = u.oid and f.attnum > 0
                                        and not f.attisdropped) end),
    needs as (
        select user_oid, oid, "column" from uses
        union
        select n.user_oid, u.oid, u."column" from needs n join uses u on u.user_oid = n.oid)
"""
_ALL_NEEDS: Final = f"""
    with recursive {_USES}
    select p.name, array_agg(distinct n.column order by n.column)
      from needs n
      join place p on p.oid = n.oid
      left join place u on u.oid = n.user_oid
     where coalesce(u.schema, '{SCHEMA}') = '{SCHEMA}'
     group by 1 order by 1
"""
_SHOWN: Final = """
    select quote_ident(n.nspname) || '.' || quote_ident(c.relname)
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where n.nspname = %s and c.relkind in ('r', 'p', 'v', 'm')
     order by 1
"""
_MISSING: Final = f"""
    with recursive {_USES},
    -- Views of others count as well: ours are read with the rights of who reads theirs.
    above as (
        select oid as top, oid from place where schema = '{SCHEMA}'
        union
        select u.user_oid, a.oid from above a join used u on u.oid = a.top
          join place p on p.oid = u.user_oid and p.relkind = 'v' and not p.is_ours
           and p.schema <> '{ANALYTICS_PSEUDONYMOUS}'),
    readers as (
        select distinct a.oid, x.grantee
          from above a join place p on p.oid = a.top
         cross join lateral (
               select grantee from aclexplode(p.relacl)
                where privilege_type = 'SELECT'
               union
               select e.grantee from pg_attribute c cross join aclexplode(c.attacl) e
                where c.attrelid = p.oid and e.privilege_type = 'SELECT') x
         where x.grantee <> p.relowner),
    wanted as (
        select distinct r.grantee, n.oid, n.column
          from readers r join needs n on n.user_oid = r.oid),
    named as (
        select w.oid, w.column, coalesce(o.rolname::text, 'public') as role
          from wanted w left join pg_roles o on o.oid = w.grantee
         where w.grantee = 0 or not (o.rolsuper or o.rolname = any (%s)))
    select n.role, p.name, array_agg(n.column order by n.column)
      from named n join place p on p.oid = n.oid
     where not has_column_privilege(n.role::name, n.oid, n.column, 'select')
     group by 1, 2 order by 1, 2
"""
_WALLED_TABLES: Final = f"""
    select quote_ident(n.nspname) || '.' || quote_ident(c.relname), a.attname::text
      from pg_class c
      join pg_namespace n on n.oid = c.relnamespace
      join pg_attribute a on a.attrelid = c.oid and not a.attisdropped
       and a.attname = case when (n.nspname, c.relname) = ('sync', 'connections') then 'id'
                            else 'connection_id' end
     where c.relkind in ('r', 'p') and not c.relispartition
       and (n.nspname in ('directory', 'history', 'events', '{SCHEMA}')
            or quote_ident(n.nspname) || '.' || quote_ident(c.relname) = any (%s))
     order by 1
"""


@dataclass(frozen=True)
class Grant:
    """A right to read columns of a table or view; all of them if none is named."""

    role: str
    place: str
    columns: tuple[str, ...] = ()

    def render(self) -> str:
        named = ", ".join(map(quote, self.columns))
        role = "public" if self.role == "public" else quote(self.role)
        return f"grant select{f' ({named})' if named else ''} on {self.place} to {role}"


def load_needs(driver: Driver) -> Mapping[str, tuple[str, ...]]:
    """Return the columns, by table or view, that views and functions of the schema use."""
    found = driver.execute(_ALL_NEEDS.encode()).fetchall()
    return {place: tuple(columns) for place, columns in found}


def load_missing_grants(driver: Driver) -> list[Grant]:
    """Return what those lack who may read a view, guarded roles aside."""
    found = driver.execute(_MISSING.encode(), [list(GUARDED)]).fetchall()
    return [Grant(role, place, tuple(columns)) for role, place, columns in found]


def load_walled_tables(driver: Driver, needs: Mapping[str, Sequence[str]]) -> list[WalledTable]:
    """Return the tables with rows of customers that readers can reach or could be granted."""
    places = [*needs, "sync.connections", "sync.streams", MAPPING]
    found = driver.execute(_WALLED_TABLES.encode(), [places]).fetchall()
    return [WalledTable(place, column) for place, column in found]


def list_grants(
    kind: ReaderKind, shown: Sequence[str], needs: Mapping[str, tuple[str, ...]]
) -> Iterator[Grant]:
    """Yield what a reader of a kind is granted beside USAGE of the schema.

    ``shown`` are the tables and views of its schema.
    """
    for place in shown:
        yield Grant(kind.role, place)
    below = defaultdict(set, {place: set(columns) for place, columns in needs.items()})
    if kind.is_listed:
        below[MAPPING] |= {"role_name", "connection_id"}
    for place, columns in sorted(below.items()):
        if place not in shown:
            yield Grant(kind.role, place, tuple(sorted(columns)))


def load_shown(driver: Driver, schema: str) -> list[str]:
    """Return the tables and views of a schema."""
    return [place for (place,) in driver.execute(_SHOWN.encode(), [schema])]
