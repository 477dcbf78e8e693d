"""The SQL that makes the roles for readers, as a superuser runs it."""

from collections.abc import Iterator
from typing import Final

import sqlalchemy as sa
from sqlalchemy import text

from migrations.walls.install import render_all_walls, render_grants
from migrations.walls.roles import ABOUT, ReaderKind, quote, render_creation, render_limits
from worker.store.engine import get_driver_connection
from worker.store.readers import render_membership

_DATABASE: Final = text("""
    select quote_ident(current_database()) as database, quote_ident(r.rolname) as owner
      from pg_class c join pg_roles r on r.oid = c.relowner
     where c.oid = 'events.change_events'::regclass
""")
_HEAD: Final = """\
-- The roles of Tenant Mirror's readers, and the walls between customers. Run it as a superuser, in
-- the database of the mirror; it can be run again. After an upgrade, 'tenant-mirror migrate' does
-- what is new. Roles belong to the whole server: a login is let into a database by CONNECT.
\\set ON_ERROR_STOP on
\\set QUIET on
set lock_timeout = '4s';
"""
_LIMITS: Final = """
-- Settings and limits of a role hold for its own sessions, and not for those of its members: each
-- login needs them itself ('tenant-mirror roles --sql --login NAME --as KIND' prints that).
"""
_TEMP: Final = """
-- Who may make temporary tables may make functions there, too. No wall depends on it; still,
-- readers need neither. Everybody has that right until it is revoked from all, so the service's
-- role gets it first, and other roles that make temporary tables need the same:
"""


def render_roles(
    db: sa.Connection,
    *,
    login: tuple[str, ReaderKind] | None = None,
    revoke_temporary: bool = False,
) -> Iterator[str]:
    """Yield the lines of a script that makes roles, walls and rights, and a login if one is named.

    The right to make temporary tables is revoked from all only if that is asked for.
    """
    driver, facts = get_driver_connection(db), db.execute(_DATABASE).one()
    yield _HEAD
    for kind in ReaderKind:
        yield _render_role(render_creation(kind))
        yield f"comment on role {kind.role} is '{ABOUT[kind]}';"
    yield _LIMITS.rstrip("\n")
    for kind in ReaderKind:
        yield from _end(render_limits(kind, kind.role, as_superuser=True))
    yield "\n-- Walls, a table at a time: each is locked for a moment."
    for statements in render_all_walls(driver):
        yield "begin;"
        yield from _end(statements)
        yield "commit;"
    yield "\n-- Rights: the views, and the columns below them without USAGE on their schemas."
    yield from _end(render_grants(driver))
    if login is not None:
        yield from _render_login(*login, facts.database)
    yield _TEMP.rstrip("\n")
    mark = "" if revoke_temporary else "-- "
    yield f"{mark}grant temporary on database {facts.database} to {facts.owner};"
    yield f"{mark}revoke temporary on database {facts.database} from public;"
    yield "\\echo 'The roles, the walls and the rights are as they should be.'"


def _render_login(name: str, kind: ReaderKind, database: str) -> Iterator[str]:
    yield f"\n-- The login, which has no password yet: \\password {quote(name)}"
    yield _render_role(f"create role {quote(name)} login nosuperuser nobypassrls")
    yield f"grant connect on database {database} to {quote(name)};"
    yield from _end(render_membership(name, kind))


def _render_role(creation: str) -> str:
    mark = "$role$"
    while mark in creation:
        mark = f"$r{mark[1:]}"
    return (
        f"do {mark} begin {creation};\n"
        f"exception when duplicate_object or unique_violation then null; end {mark};"
    )


def _end(statements: Iterator[str] | list[str]) -> Iterator[str]:
    return (f"{one};" for one in statements)
