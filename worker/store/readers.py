"""The logins that read the views: what each is a member of, and what its walls would not hold."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from psycopg.errors import InsufficientPrivilege
from sqlalchemy import text

from migrations.walls.roles import GUARDED, NAMELESS, ROLES, ReaderKind, quote, render_limits
from worker.core.errors import ConfigurationError, InvalidInput, NotFound
from worker.store.engine import get_driver_connection

# Since Postgres 16 the maker of a role is a member of it who may only pass it on.
_READERS: Final = text("""
    with recursive granted as (
        select m.roleid, m.member from pg_auth_members m
         where coalesce((to_jsonb(m) ->> 'inherit_option')::boolean, true)
            or coalesce((to_jsonb(m) ->> 'set_option')::boolean, true)),
    member as (
        select r.oid, r.rolname as role from pg_roles r where r.rolname = any (:roles)
        union
        select g.member, m.role from member m join granted g on g.roleid = m.oid),
    reader as (
        select coalesce(r.rolname::text, l.role_name) as name, r.oid, l.connection_id,
               array(select m.role::text from member m where m.oid = r.oid order by 1) as roles
          from pg_roles r
          full join sync.reader_connections l on l.role_name = r.rolname
         where l.role_name is not null or r.oid in (select oid from member)
            or r.rolname = cast(:name as text))
    select f.name, f.roles, f.connection_id,
           f.oid is not null as exists, coalesce(r.rolcanlogin, false) as can_login,
           coalesce(r.rolsuper or r.rolbypassrls, false) as passes_walls,
           coalesce(not r.rolsuper
                    and pg_has_role(f.oid, t.relowner, 'member'), false) as is_owner,
           array(select o.rolname::text from pg_roles o
                  where o.oid <> f.oid and not r.rolsuper and pg_has_role(f.oid, o.oid, 'member')
                    and exists (select from pg_class c
                                 where c.relrowsecurity
                                   and has_any_column_privilege(o.oid, c.oid, 'select'))
                    and not exists (select from member m
                                     where m.oid = o.oid and m.role = any (:guarded))
                  order by 1) as may_become
      from reader f left join pg_roles r on r.oid = f.oid
      join pg_class t on t.oid = 'events.change_events'::regclass
     where f.name <> all (:roles)
     order by f.name
""")
_ALLOW: Final = text("""
    insert into sync.reader_connections (role_name, connection_id) values (:name, :connection)
        on conflict (role_name) do update set connection_id = excluded.connection_id
""")
_DISALLOW: Final = text(
    "delete from sync.reader_connections where role_name = :name and connection_id = :connection"
)
_CONNECT: Final = text("""
    select has_database_privilege(:name, current_database(), 'connect') as is_allowed,
           quote_ident(current_database()) as database
""")
_ROLES_EXIST: Final = text("""
    select count(*) = cardinality(cast(:roles as text[])) from pg_roles
     where rolname = any (:roles)
""")

_LISTED: Final = tuple(kind.role for kind in ReaderKind if kind.is_listed)


@dataclass(frozen=True)
class Reader:
    """A role of Postgres that is granted one of ours, or is listed with a connection."""

    name: str
    roles: tuple[str, ...]
    """Those of our roles that it is a member of, directly or not."""
    connection_id: int | None
    """The connection that it is listed with, which counts for customers' logins."""
    exists: bool
    can_login: bool
    passes_walls: bool
    """It is a superuser or has BYPASSRLS."""
    is_owner: bool
    """It owns the tables, or belongs to the role that does."""
    may_become: tuple[str, ...]
    """Roles without walls that read the mirror, and that it may switch to."""

    @property
    def is_guarded(self) -> bool:
        """Whether it may not see everything that is in the views."""
        return self.connection_id is not None or any(role in GUARDED for role in self.roles)

    @property
    def is_nameless(self) -> bool:
        """Whether it is meant to read pseudonyms."""
        return any(role in NAMELESS for role in self.roles)

    @property
    def roles_with_names(self) -> tuple[str, ...]:
        return tuple(role for role in self.roles if role not in NAMELESS)

    def list_problems(self) -> Iterator[str]:
        """Yield what is wrong with it, each as the rest of a sentence."""
        if self.passes_walls:
            yield "is a superuser or has BYPASSRLS, so no wall holds it"
        elif self.is_owner:
            yield "owns the tables or belongs to their owner, so it reads everything"
        elif self.is_guarded and self.may_become:
            yield f"may switch to a role without walls ({', '.join(self.may_become)})"
        if self.is_nameless and self.roles_with_names:
            yield f"is to read pseudonyms, and reads names by {', '.join(self.roles_with_names)}"
        if self.connection_id is not None and not self.exists:
            yield "is listed with a connection, and there is no such role of Postgres"
        elif self.connection_id is not None and not set(self.roles) & set(_LISTED):
            yield f"is listed with a connection, and is no member of {' or '.join(_LISTED)}"


def load_readers(db: sa.Connection, name: str | None = None) -> list[Reader]:
    """Return all readers, and the role ``name`` even if it is none."""
    values = {"roles": list(ROLES), "guarded": list(GUARDED), "name": name}
    return [
        Reader(**{**row, "roles": tuple(row["roles"]), "may_become": tuple(row["may_become"])})
        for row in db.execute(_READERS, values).mappings()
    ]


def get_reader(db: sa.Connection, name: str) -> Reader:
    """Return a role by its name.

    Raises NotFound if there is none, InvalidInput if nothing can be kept from it.
    """
    found = next((one for one in load_readers(db, name) if one.name == name), None)
    if found is None or not found.exists:
        raise NotFound(
            f"Postgres has no role '{name}'; create it first, for example with "
            f"'create role {quote(name)} login', and name it here"
        )
    if found.passes_walls or found.is_owner:
        problem = next(found.list_problems())
        raise InvalidInput(f"the role '{name}' {problem}. Name another role")
    return found


def check_wallable(reader: Reader, kind: ReaderKind) -> None:
    """Raise InvalidInput if a role could step around its walls, or gain or keep names unasked."""
    if reader.may_become:
        raise InvalidInput(
            f"the role '{reader.name}' is a member of {', '.join(reader.may_become)}, which read"
            " all customers: it could switch to one of them. Revoke that, or name another role"
        )
    if kind.sees_names and reader.is_nameless:
        raise InvalidInput(
            f"the role '{reader.name}' reads without names; say --without-names, or revoke"
            f" {', '.join(set(reader.roles) & set(NAMELESS))} from it"
        )
    if not kind.sees_names and reader.roles_with_names:
        raise InvalidInput(
            f"the role '{reader.name}' is a member of {', '.join(reader.roles_with_names)}, which"
            " reads names. Revoke that, or name another role"
        )


def check_roles_exist(db: sa.Connection) -> None:
    """Raise ConfigurationError if the roles for readers are missing."""
    if not db.execute(_ROLES_EXIST, {"roles": list(ROLES)}).scalar_one():
        raise ConfigurationError(
            "the roles for readers do not exist yet; run what 'tenant-mirror roles --sql' prints"
            " as a superuser"
        )


def allow_connection(db: sa.Connection, name: str, connection_id: int) -> None:
    """Let a customer's login see a connection, and no longer the one before."""
    db.execute(_ALLOW, {"name": name, "connection": connection_id})


def disallow_connection(db: sa.Connection, name: str, connection_id: int) -> bool:
    """Hide a connection from a customer's login; return whether it could see it."""
    found = db.execute(_DISALLOW, {"name": name, "connection": connection_id})
    return bool(found.rowcount)


def render_membership(name: str, kind: ReaderKind, *, as_superuser: bool = True) -> list[str]:
    """Return the statements that make a login a reader, and limit what it takes up."""
    return [
        f"grant {kind.role} to {quote(name)}",
        *render_limits(kind, name, as_superuser=as_superuser),
    ]


def grant_membership(db: sa.Connection, name: str, kind: ReaderKind) -> list[str]:
    """Make a login a reader; return the statements that a superuser has to run, if any."""
    left = [one for one in render_membership(name, kind) if not _may_execute(db, one)]
    connect = db.execute(_CONNECT, {"name": name}).one()
    if not connect.is_allowed:
        statement = f"grant connect on database {connect.database} to {quote(name)}"
        # Who may not grant it gets a warning, and no error, while another right on it is theirs.
        _may_execute(db, statement)
        if not db.execute(_CONNECT, {"name": name}).one().is_allowed:
            left.append(statement)
    return left


def _may_execute(db: sa.Connection, statement: str) -> bool:
    """Execute a statement; return whether the role of the session may."""
    driver = get_driver_connection(db)
    try:
        with driver.transaction():
            driver.execute(statement.encode())
    except InsufficientPrivilege:
        return False
    return True
