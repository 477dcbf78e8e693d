"""Whom a person means: an object by its id or address, and what else may be about the same one."""

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, text

from models.base import DIRECTORY
from models.resource import OWNER

_CALLED = text("""
    select id, deleted_at is null as live from directory.users
     where connection_id = :id and (lower(user_principal_name) = lower(:name)
                                    or lower(mail) = lower(:name))
     order by live desc, changed_at desc limit 20
""")
_POINTED_AT = text("""
    (select case member_type when 'group' then 'groups' else 'users' end as resource
       from directory.group_members
      where connection_id = :id and member_id = cast(:key as uuid) limit 1)
     union all
    (select 'users' from directory.role_assignments
      where connection_id = :id and principal_id = cast(:key as uuid) limit 1)
""")
_SITES = text("""
    select id from directory.sites
     where connection_id = :id
       and (is_personal_site and lower(display_name) = any(cast(:names as text[]))
            or exists (select from unnest(cast(:paths as text[])) as u(path)
                        where strpos(lower(web_url), '/' || u.path) > 0 or lower(name) = u.path))
     order by id limit 100
""")
_ELSEWHERE = """
    select c.id from sync.connections c
      join sync.connections mine on mine.id = :id and mine.tenant_id = c.tenant_id
     where c.id <> mine.id and exists (
           select from {table} t where t.{owner} = c.id and t.id = cast(:key as uuid))
     order by c.id
"""


class Called(NamedTuple):
    """A user of some name."""

    id: str
    live: bool


def users_called(connection: Connection, connection_id: int, name: str) -> list[Called]:
    """Users by principal name or mail, those that are live first."""
    values = {"id": connection_id, "name": name}
    return [Called(*row) for row in connection.execute(_CALLED, values)]


def stored_as(
    connection: Connection, connection_id: int, key: str, resources: Sequence[str]
) -> str | None:
    """The first of some resources that has a row of this id, deleted or not."""
    for name in resources:
        statement = text(
            f"select 1 from {DIRECTORY}.{name} where {OWNER} = :id and id = cast(:key as uuid)"
        )
        if connection.execute(statement, {"id": connection_id, "key": key}).first():
            return name
    return None


def pointed_at(connection: Connection, connection_id: int, key: str) -> str | None:
    """What an id is of that only memberships or role assignments name."""
    values = {"id": connection_id, "key": key}
    found: str | None = connection.execute(_POINTED_AT, values).scalar()
    return found


def personal_sites(connection: Connection, connection_id: int, names: Collection[str]) -> list[str]:
    """Sites that look like a person's own: of the same name, or at an address made of theirs."""
    lowered = sorted(name.lower() for name in names)
    paths = sorted({path_of(name) for name in lowered if "@" in name})
    values = {"id": connection_id, "names": lowered, "paths": paths}
    return list(connection.execute(_SITES, values).scalars())


def path_of(principal_name: str) -> str:
    """How OneDrive spells a principal name in the address of a personal site."""
    return re.sub(r"[^0-9a-z]", "_", principal_name.lower())


def same_elsewhere(
    connection: Connection, connection_id: int, resource: str, key: str
) -> list[int]:
    """Other connections of the same tenant that have rows of the object, such as retired ones."""
    statement = text(_ELSEWHERE.format(table=f"{DIRECTORY}.{resource}", owner=OWNER))
    return list(connection.execute(statement, {"id": connection_id, "key": key}).scalars())
