"""Makes the views without names after those that they follow from, and drops them before those."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.errors import DependentObjectsStillExist

from migrations.views.pseudonyms import render_view
from migrations.views.view import SCHEMA, AnalyticsView, ViewInUse, render_comment
from models.base import ANALYTICS_PSEUDONYMOUS

_ABOUT: Final = "Views for people without names: pseudonyms for ids, days for times"
_DIGEST: Final = re.compile(r"\(definition ([0-9a-f]+)\)$")
_ABOUT_SCHEMA: Final = (
    f"select obj_description(to_regnamespace('{ANALYTICS_PSEUDONYMOUS}'), 'pg_namespace')"
)
_TYPES: Final = f"""
    select c.relname::text, jsonb_object_agg(a.attname, format_type(a.atttypid, null))
      from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
     where c.relnamespace = '{SCHEMA}'::regnamespace and c.relkind = 'v' and not a.attisdropped
     group by 1
"""
_VIEWS: Final = f"""
    select relname::text from pg_class
     where relnamespace = to_regnamespace('{ANALYTICS_PSEUDONYMOUS}') and relkind = 'v'
"""
_GRANTS: Final = f"""
    select c.relname::text,
           case when a.grantee = 0 then 'public' else a.grantee::regrole::text end
      from pg_class c cross join aclexplode(c.relacl) a
     where c.relnamespace = to_regnamespace('{ANALYTICS_PSEUDONYMOUS}') and c.relkind = 'v'
       and a.privilege_type = 'SELECT' and a.grantee <> c.relowner
"""


def install_pseudonyms(driver: psycopg.Connection[Any], views: Sequence[AnalyticsView]) -> bool:
    """Make the views without names; return whether they were other ones before.

    Who could read one can read it afterwards. Raises ViewInUse.
    """
    types: Mapping[str, Mapping[str, str]] = dict(driver.execute(_TYPES.encode()).fetchall())
    statements = [one for view in views for one in render_view(view, types[view.name])]
    digest = hashlib.sha256("\n".join(statements).encode()).hexdigest()[:16]
    row = driver.execute(_ABOUT_SCHEMA.encode()).fetchone()
    found = _DIGEST.search((row and row[0]) or "")
    existing = {name for (name,) in driver.execute(_VIEWS.encode())}
    if found and found[1] == digest and existing == {view.name for view in views}:
        return False
    grants = driver.execute(_GRANTS.encode()).fetchall()
    driver.execute(f"create schema if not exists {ANALYTICS_PSEUDONYMOUS}".encode())
    drop_pseudonyms(driver)
    about = render_comment(f"{_ABOUT} (definition {digest})")
    for statement in (*statements, f"comment on schema {ANALYTICS_PSEUDONYMOUS} is {about}"):
        driver.execute(statement.encode())
    made = {view.name for view in views}
    for name, grantee in grants:
        if name in made:
            driver.execute(f"grant select on {ANALYTICS_PSEUDONYMOUS}.{name} to {grantee}".encode())
    return True


def drop_pseudonyms(driver: psycopg.Connection[Any]) -> None:
    """Drop the views without names. Raises ViewInUse."""
    names = [name for (name,) in driver.execute(_VIEWS.encode()).fetchall()]
    if not names:
        return
    for name in names:
        place = sql.Identifier(ANALYTICS_PSEUDONYMOUS, name)
        try:
            driver.execute(sql.SQL("drop view {}").format(place))
        except DependentObjectsStillExist as error:
            detail = error.diag.message_detail
            raise ViewInUse(f"{ANALYTICS_PSEUDONYMOUS}.{name}: {detail}") from None
    driver.execute(f"comment on schema {ANALYTICS_PSEUDONYMOUS} is null".encode())
