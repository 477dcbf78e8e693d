"""Brings roles, walls and rights of a database in step, after each migration.

Each step can be run again, does nothing where nothing is missing, and locks one table at a time.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

import sqlalchemy as sa
from psycopg.errors import DuplicateObject, UniqueViolation

from migrations.walls.needs import (
    Driver,
    Grant,
    list_grants,
    load_missing_grants,
    load_needs,
    load_shown,
    load_walled_tables,
)
from migrations.walls.policies import PREFIX, WalledTable, list_policies, render_walls
from migrations.walls.roles import (
    ABOUT,
    GUARDED,
    ROLES,
    ReaderKind,
    render_creation,
    render_limits,
)
from models.base import ANALYTICS_PSEUDONYMOUS, SCHEMAS

_LOCK_SECONDS: Final = 4
_EXISTING: Final = "select rolname::text from pg_roles where rolname = any (%s)"
_SCHEMAS: Final = "select nspname::text from pg_namespace where nspname = any (%s)"
_RIGHTS: Final = """
    select r.rolsuper or r.rolcreaterole,
           r.rolsuper or has_parameter_privilege('temp_file_limit', 'set')
      from pg_roles r where r.rolname = current_user
"""
_STANDING: Final = """
    select quote_ident(n.nspname) || '.' || quote_ident(c.relname),
           array_agg(obj_description(p.oid, 'pg_policy'))
      from pg_policy p join pg_class c on c.oid = p.polrelid
      join pg_namespace n on n.oid = c.relnamespace
     where c.relrowsecurity
     group by 1
"""
_OUR_POLICIES: Final = """
    select quote_ident(n.nspname) || '.' || quote_ident(c.relname), array_agg(p.polname::text)
      from pg_policy p join pg_class c on c.oid = p.polrelid
      join pg_namespace n on n.oid = c.relnamespace
     where starts_with(p.polname::text, %s)
     group by 1
"""
_GRANTED: Final = """
    select g.number
      from unnest(%s::text[], %s::text[], %s::text[]) with ordinality
           as g (role, place, named, number)
     where case when g.named = '' then has_table_privilege(g.role, g.place, 'select')
           else (select bool_and(has_column_privilege(g.role, g.place, c, 'select'))
                   from unnest(string_to_array(g.named, ',')) c) end
"""


def grant_to_readers(db: sa.Connection) -> int:
    """Grant what the views need to whoever may read them, guarded roles aside; count the grants.

    Raises an error of Postgres if the role of ``db`` may not grant it.
    """
    driver = _get_driver(db)
    missing = load_missing_grants(driver)
    _execute(driver, (one.render() for one in missing))
    return len(missing)


def install_walls(engine: sa.Engine) -> list[str]:
    """Make the roles, wall the tables and grant the views; return what could not be done.

    A walled role is granted a table after it is walled. Roles that are missing and may not be made
    hold up nothing of the others.
    """
    with engine.begin() as db:
        kinds = _make_roles(_get_driver(db))
        tables = _find_unwalled(_get_driver(db), kinds) if kinds else []
    for table in tables:
        with engine.begin() as db:
            _execute(_get_driver(db), _limit_wait(render_walls(table, kinds)))
    with engine.begin() as db:
        driver = _get_driver(db)
        _execute(driver, _render_missing_grants(driver, kinds))
    missing = [kind for kind in ReaderKind if kind not in kinds]
    return [explain_missing(missing)] if missing else []


def explain_missing(kinds: Sequence[ReaderKind]) -> str:
    """Return a sentence about roles that were not made."""
    return (
        f"roles for readers were not made ({', '.join(kind.role for kind in kinds)}), as the"
        " migrating role may not create roles; run what 'tenant-mirror roles --sql' prints as a"
        " superuser"
    )


def drop_walls(db: sa.Connection) -> None:
    """Take down the walls. Guarded roles lose every right, as they would see too much."""
    driver = _get_driver(db)
    for place, names in driver.execute(_OUR_POLICIES.encode(), [PREFIX]).fetchall():
        _execute(driver, (f"drop policy {name} on {place}" for name in names))
        driver.execute(f"alter table {place} disable row level security".encode())
    for (role,) in driver.execute(_EXISTING.encode(), [list(GUARDED)]).fetchall():
        for (schema,) in driver.execute(_SCHEMAS.encode(), [[*SCHEMAS, ANALYTICS_PSEUDONYMOUS]]):
            driver.execute(f"revoke all on all tables in schema {schema} from {role}".encode())


def render_grants(driver: Driver) -> Iterator[str]:
    """Yield the statements that grant the roles what they read."""
    yield from _render_usage(ReaderKind)
    for grant in _list_all_grants(driver, ReaderKind):
        yield grant.render()


def render_all_walls(driver: Driver) -> Iterator[list[str]]:
    """Yield the statements that wall a table, for each table that is walled."""
    for table in load_walled_tables(driver, load_needs(driver)):
        yield list(render_walls(table))


def _make_roles(driver: Driver) -> list[ReaderKind]:
    """Make the roles that are missing; return the kinds whose role exists."""
    existing = {role for (role,) in driver.execute(_EXISTING.encode(), [list(ROLES)])}
    missing = [kind for kind in ReaderKind if kind.role not in existing]
    if not missing:
        return list(ReaderKind)
    found = driver.execute(_RIGHTS.encode()).fetchone()
    may_create, may_limit_files = found or (False, False)
    for kind in missing if may_create else ():
        # Roles belong to the whole server: another database may just have made them.
        with suppress(DuplicateObject, UniqueViolation), driver.transaction():
            driver.execute(render_creation(kind).encode())
            _execute(driver, render_limits(kind, kind.role, as_superuser=may_limit_files))
            driver.execute(f"comment on role {kind.role} is '{ABOUT[kind]}'".encode())
    return [kind for kind in ReaderKind if may_create or kind not in missing]


def _find_unwalled(driver: Driver, kinds: Collection[ReaderKind]) -> list[WalledTable]:
    """Return the tables that lack a policy or have another one than is declared."""
    standing = {place: set(told) for place, told in driver.execute(_STANDING.encode())}
    return [
        table
        for table in load_walled_tables(driver, load_needs(driver))
        if not {one.comment for one in list_policies(table, kinds)}
        <= standing.get(table.place, set())
    ]


def _list_all_grants(driver: Driver, kinds: Iterable[ReaderKind]) -> list[Grant]:
    needs = load_needs(driver)
    return [
        grant
        for kind in kinds
        for grant in list_grants(kind, load_shown(driver, kind.schema), needs)
    ]


def _render_missing_grants(driver: Driver, kinds: Collection[ReaderKind]) -> list[str]:
    wanted = _list_all_grants(driver, kinds)
    values = (
        [one.role for one in wanted],
        [one.place for one in wanted],
        [",".join(one.columns) for one in wanted],
    )
    granted = {number for (number,) in driver.execute(_GRANTED.encode(), values)}
    return [
        *(_render_usage(kinds) if len(granted) < len(wanted) else ()),
        *(one.render() for number, one in enumerate(wanted, 1) if number not in granted),
    ]


def _render_usage(kinds: Iterable[ReaderKind]) -> Iterator[str]:
    return (f"grant usage on schema {kind.schema} to {kind.role}" for kind in kinds)


def _limit_wait(statements: Iterable[str]) -> Iterator[str]:
    yield f"set local lock_timeout = '{_LOCK_SECONDS}s'"
    yield from statements


def _execute(driver: Driver, statements: Iterable[str]) -> None:
    for statement in statements:
        driver.execute(statement.encode())


def _get_driver(db: sa.Connection) -> Driver:
    driver: Any = db.connection.driver_connection
    assert driver is not None
    return driver  # type: ignore[no-any-return]
