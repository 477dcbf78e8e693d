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
from psycopg import sql
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
_GRANTS: Final = f"""
    select n.nspname || '.' || c.relname, a.privilege_type,
           case when a.grantee = 0 then 'public' else a.grantee::regrole::text end,
           case when a.is_grantable then ' with grant option' else '' end
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
     cross join aclexplode(c.relacl) a
     where n.nspname in ('{SCHEMA}', '{ANALYTICS_PSEUDONYMOUS}') and c.relkind = 'v'
       and a.grantee <> c.relowner
"""

_EARLIER: Final = tuple(one for one in FUNCTIONS if one.is_used_by_views)
_LATER: Final = tuple(one for one in FUNCTIONS if not one.is_used_by_views)

Grants: TypeAlias = list[tuple[Any, ...]]
"""View, privilege, grantee and grant option of each grant."""


def install_views(db: sa.Connection) -> bool:
    """Make the views as they are declared; return whether they were other ones before.

    It happens in the transaction of ``db``. Who could read a view can read it afterwards.
    Raises ViewInUse if columns of a view change that objects outside Tenant Mirror use: nothing is
    changed then.
    """
    driver = get_driver_connection(db)
    changed = _bring_into_step(driver)
    install_pseudonyms(driver, VIEWS)
    return changed


def _bring_into_step(driver: psycopg.Connection[Any]) -> bool:
    if _read_digest(driver) == compute_digest():
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
    for statements in (*map(_render, VIEWS), *(one.render() for one in _LATER)):
        with suppress(UndefinedTable, UndefinedColumn, UndefinedFunction), driver.transaction():
            for statement in statements:
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
    for function in _EARLIER:
        yield from function.render()
    for view in VIEWS:
        yield from _render(view)
    for function in _LATER:
        yield from function.render()


def _render(view: AnalyticsView) -> Iterator[str]:
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
    for function in reversed(_LATER):
        _drop_function(driver, function)
    for view in reversed(VIEWS):
        place = sql.SQL("{}.{}").format(sql.Identifier(SCHEMA), sql.Identifier(view.name))
        try:
            driver.execute(sql.SQL("drop view if exists {}").format(place))
        except DependentObjectsStillExist as error:
            raise ViewInUse(f"{SCHEMA}.{view.name}: {error.diag.message_detail}") from None
    for function in reversed(_EARLIER):
        _drop_function(driver, function)


def _drop_function(driver: psycopg.Connection[Any], function: AnalyticsFunction) -> None:
    try:
        driver.execute(f"drop function if exists {function.signature}".encode())
    except DependentObjectsStillExist as error:
        raise ViewInUse(f"{function.signature}: {error.diag.message_detail}") from None
