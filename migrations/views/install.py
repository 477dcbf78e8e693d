"""Brings the views of a database in step with their declarations, after each migration.

They are read with the rights of who reads them, so that row-level security of the tables below
holds for them; ``migrations/walls`` grants what readers need there.

The comment of the schema carries a digest of what was installed, so that nothing is done twice.
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final, TypeAlias

import psycopg
import sqlalchemy as sa
from psycopg.errors import (
    DependentObjectsStillExist,
    InvalidFunctionDefinition,
    InvalidTableDefinition,
    UndefinedColumn,
    UndefinedFunction,
    UndefinedTable,
)

from migrations.views import FUNCTIONS, VIEWS
from migrations.views.function import AnalyticsFunction
from migrations.views.install_pseudonyms import drop_pseudonyms, install_pseudonyms
from migrations.views.view import SCHEMA, AnalyticsView, ViewInUse, render_comment
from migrations.walls.roles import GUARDED
from models.base import ANALYTICS_PSEUDONYMOUS
from worker.store.engine import get_driver_connection

FIRST_REVISION: Final = "0055"
"""From here on the views are as declared here; those of earlier revisions are in the migrations."""

_LOCK_SECONDS: Final = 4
_COMMENT: Final = "Views for people of what is live now"
_DIGEST: Final = re.compile(r"\(definition ([0-9a-f]+)\)$")
_ABOUT_SCHEMA: Final = f"select obj_description('{SCHEMA}'::regnamespace, 'pg_namespace')"
_EXISTING: Final = f"""
    select n.nspname || '.' || c.relname
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where n.nspname in ('{SCHEMA}', '{ANALYTICS_PSEUDONYMOUS}') and c.relkind = 'v'
"""
_EXISTING_FUNCTIONS: Final = f"""
    select n.nspname || '.' || p.proname
      from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname = '{SCHEMA}'
"""
_GRANTS: Final = f"""
    select n.nspname || '.' || c.relname, a.privilege_type,
           case when a.grantee = 0 then 'public' else a.grantee::regrole::text end,
           case when a.is_grantable then ' with grant option' else '' end
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
     cross join aclexplode(c.relacl) a
     where n.nspname in ('{SCHEMA}', '{ANALYTICS_PSEUDONYMOUS}') and c.relkind = 'v'
       and a.grantee <> c.relowner
"""

Declared: TypeAlias = AnalyticsView | AnalyticsFunction


def _list_in_order() -> Iterator[Declared]:
    """Yield views and functions, each after those that it uses."""
    for view in VIEWS:
        yield from (one for one in FUNCTIONS if one.made_before == view.name)
        yield view
    yield from (one for one in FUNCTIONS if not one.made_before)


_DECLARED: Final = tuple(_list_in_order())
_RETIRED: Final = tuple(
    f"{SCHEMA}.{name}()" for name in ("nesting_groups", "nesting_members", "nesting_pairs")
)
"""Functions of earlier releases that none of ours uses any more."""

Grants: TypeAlias = list[tuple[Any, ...]]
"""View, privilege, grantee and grant option of each grant."""


def install_views(db: sa.Connection) -> bool:
    """Make the views as they are declared; return whether they were other ones before.

    It happens in the transaction of ``db``. Who could read a view can read it afterwards.
    Raises ViewInUse if columns of a view change that objects outside Tenant Mirror use: nothing is
    changed then.
    """
    driver = get_driver_connection(db)
    missing = [one for one in list_missing_views(db) if one.startswith(f"{SCHEMA}.")]
    changed = _bring_into_step(driver, is_complete=not missing)
    return install_pseudonyms(driver, VIEWS) or changed


def are_views_current(db: sa.Connection) -> bool:
    """Return whether the views were last made as this release declares them."""
    return _read_digest(get_driver_connection(db)) == compute_digest()


def list_missing_views(db: sa.Connection) -> list[str]:
    """Return the views of both schemas, and the functions, that somebody dropped or renamed."""
    driver = get_driver_connection(db)
    schemas = (SCHEMA, ANALYTICS_PSEUDONYMOUS)
    declared = [f"{schema}.{view.name}" for schema in schemas for view in VIEWS]
    declared += [f"{SCHEMA}.{one.name}" for one in FUNCTIONS]
    # Looked up in the catalogue, as a name is resolved only for roles that may use its schema.
    queries = (_EXISTING, _EXISTING_FUNCTIONS)
    existing = {name for query in queries for (name,) in driver.execute(query.encode())}
    return [name for name in declared if name not in existing]


def _bring_into_step(driver: psycopg.Connection[Any], *, is_complete: bool) -> bool:
    if is_complete and _read_digest(driver) == compute_digest():
        return False
    driver.execute(f"set local lock_timeout = '{_LOCK_SECONDS}s'".encode())
    try:
        with driver.transaction():
            _create(driver)
    except (InvalidTableDefinition, InvalidFunctionDefinition):
        _create_anew(driver)
    about = f"{_COMMENT} (definition {compute_digest()})"
    driver.execute(f"comment on schema {SCHEMA} is {render_comment(about)}".encode())
    return True


def install_possible_views(db: sa.Connection) -> None:
    """Make those views whose tables and columns exist, at a revision that is not the newest.

    The release that the revision belongs to makes its own when it migrates.
    """
    driver = get_driver_connection(db)
    for one in _DECLARED:
        with suppress(UndefinedTable, UndefinedColumn, UndefinedFunction), driver.transaction():
            for statement in _render(one):
                driver.execute(statement.encode())


def drop_views(db: sa.Connection) -> Grants:
    """Drop the views, as tables that they use may be dropped afterwards; return who may read them.

    Raises ViewInUse.
    """
    driver = get_driver_connection(db)
    grants = _load_grants(driver)
    _drop(driver)
    driver.execute(f"comment on schema {SCHEMA} is null".encode())
    return grants


def drop_pseudonymous_schema(db: sa.Connection) -> None:
    """Drop the views without names, and their schema. Raises ViewInUse."""
    driver = get_driver_connection(db)
    drop_pseudonyms(driver)
    driver.execute(f"drop schema if exists {ANALYTICS_PSEUDONYMOUS}".encode())


def restore_grants(db: sa.Connection, grants: Grants) -> None:
    """Grant what was granted on views that exist again.

    Guarded roles are left out: there may be no walls now, and they get their rights with them.
    """
    driver = get_driver_connection(db)
    _grant(driver, [one for one in grants if one[2] not in GUARDED])


def compute_digest() -> str:
    """Return the digest of all that is installed."""
    return hashlib.sha256("\n".join(_render_all()).encode()).hexdigest()[:16]


def _render_all() -> Iterator[str]:
    for one in _DECLARED:
        yield from _render(one)


def _render(declared: Declared) -> Iterator[str]:
    if isinstance(declared, AnalyticsView):
        return _render_view(declared)
    return declared.render()


def _render_view(view: AnalyticsView) -> Iterator[str]:
    place = f"{SCHEMA}.{view.name}"
    yield f"create or replace view {place} with (security_invoker = true) as\n{view.render_query()}"
    yield f"comment on view {place} is {render_comment(view.meaning)}"
    for column in view.columns:
        yield f"comment on column {place}.{column.name} is {render_comment(column.meaning)}"


def _read_digest(driver: psycopg.Connection[Any]) -> str | None:
    row = driver.execute(_ABOUT_SCHEMA.encode()).fetchone()
    found = _DIGEST.search((row and row[0]) or "")
    return found[1] if found else None


def _create(driver: psycopg.Connection[Any]) -> None:
    for statement in _render_all():
        driver.execute(statement.encode())
    _drop_retired(driver)


def _create_anew(driver: psycopg.Connection[Any]) -> None:
    """Drop and create all views, as a view cannot lose or exchange columns otherwise."""
    grants = _load_grants(driver)
    _drop(driver)
    _create(driver)
    install_pseudonyms(driver, VIEWS)
    _grant(driver, grants)


def _load_grants(driver: psycopg.Connection[Any]) -> Grants:
    return driver.execute(_GRANTS.encode()).fetchall()


def _grant(driver: psycopg.Connection[Any], grants: Grants) -> None:
    existing = {name for (name,) in driver.execute(_EXISTING.encode())}
    for name, privilege, grantee, option in grants:
        if name in existing:
            driver.execute(f"grant {privilege} on {name} to {grantee}{option}".encode())


def _drop(driver: psycopg.Connection[Any]) -> None:
    drop_pseudonyms(driver)
    for one in reversed(_DECLARED):
        if isinstance(one, AnalyticsView):
            _drop_one(driver, f"view {SCHEMA}.{one.name}")
        else:
            _drop_one(driver, f"function {one.signature}")
    _drop_retired(driver)


def _drop_retired(driver: psycopg.Connection[Any]) -> None:
    for signature in _RETIRED:
        _drop_one(driver, f"function {signature}")


def _drop_one(driver: psycopg.Connection[Any], named: str) -> None:
    kind, _, place = named.partition(" ")
    try:
        driver.execute(f"drop {kind} if exists {place}".encode())
    except DependentObjectsStillExist as error:
        raise ViewInUse(f"{place}: {error.diag.message_detail}") from None
