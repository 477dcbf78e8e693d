"""Find the object that an operator names, and others that may concern the same person."""

import re
from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy import text

from models.base import DIRECTORY
from models.property import Property
from models.resource import OWNER, Resource
from models.resources import ERASABLE, ERASABLE_REFERENCES, RESOURCES

PEOPLE: Final = "users"
"""The resource whose objects are people, who are known by names as well as by ids."""

_USERS_BY_NAME = text("""
    select id, deleted_at is null as live from directory.users
     where connection_id = :id and (lower(user_principal_name) = lower(:name)
                                    or lower(mail) = lower(:name))
     order by live desc, changed_at desc limit 20
""")
_SITES = text("""
    select id from directory.sites
     where connection_id = :id
       and (is_personal_site and lower(display_name) = any(cast(:names as text[]))
            or exists (select from unnest(cast(:paths as text[])) as u(path)
                        where strpos(lower(web_url), '/' || u.path) > 0 or lower(name) = u.path))
     order by id limit 100
""")
_OTHER_CONNECTIONS = """
    select c.id from sync.connections c
      join sync.connections mine on mine.id = :id and mine.tenant_id = c.tenant_id
     where c.id <> mine.id and exists (
           select from {table} t where t.{owner} = c.id and t.id = cast(:key as uuid))
     order by c.id
"""


def _render_referenced_resource(resource: Resource, column: Property) -> str:
    """Return SQL for the resource that a column names, by the type beside the id if there is one.

    Without a type, or with one that is none of these, it is the first that the column references.
    """
    names = [name for name in column.references if name in ERASABLE]
    beside = f"{column.name.removesuffix('_id')}_type"
    if beside not in resource.column_names:
        return f"'{names[0]}'"
    kinds = ((name, RESOURCES[name].graph_type.lower()) for name in names)
    cases = " ".join(f"when '{kind}' then '{name}'" for name, kind in kinds)
    return f"case lower({beside}) {cases} else '{names[0]}' end"


def _build_referenced_query() -> str:
    """Return a query of the resource of an id, by the rows that name it."""
    return " union all ".join(
        f"(select {_render_referenced_resource(RESOURCES[name], column)} from {DIRECTORY}.{name}"
        f" where {OWNER} = :id and {column.name} = cast(:key as uuid) limit 1)"
        for name, columns in ERASABLE_REFERENCES.items()
        for column in columns
    )


_REFERENCED_RESOURCE = text(_build_referenced_query())


class NamedUser(NamedTuple):
    """A user found by name."""

    id: str
    is_live: bool


def find_users(db: sa.Connection, connection_id: int, name: str) -> list[NamedUser]:
    """Return the users with a principal name or mail, live ones first."""
    values = {"id": connection_id, "name": name}
    return [NamedUser(*row) for row in db.execute(_USERS_BY_NAME, values)]


def find_stored_resource(
    db: sa.Connection, connection_id: int, key: str, resources: Sequence[str]
) -> str | None:
    """Return the first of some resources that has a row of this id, deleted or not."""
    for name in resources:
        statement = text(
            f"select 1 from {DIRECTORY}.{name} where {OWNER} = :id and id = cast(:key as uuid)"
        )
        if db.execute(statement, {"id": connection_id, "key": key}).first():
            return name
    return None


def find_referenced_resource(db: sa.Connection, connection_id: int, key: str) -> str | None:
    """Return the resource of an id that only other objects name, such as memberships."""
    values = {"id": connection_id, "key": key}
    found: str | None = db.execute(_REFERENCED_RESOURCE, values).scalar()
    return found


def find_namesakes(
    db: sa.Connection, connection_id: int, resource: str, names: Collection[str]
) -> list[tuple[str, str]]:
    """Return what looks like a person's, as resource and id: sites with the name or URL."""
    if resource != PEOPLE:
        return []
    lowered = sorted(name.lower() for name in names)
    paths = sorted({build_personal_site_path(name) for name in lowered if "@" in name})
    values = {"id": connection_id, "names": lowered, "paths": paths}
    return [("sites", site) for site in db.execute(_SITES, values).scalars()]


def build_personal_site_path(principal_name: str) -> str:
    """Return a principal name as OneDrive writes it in a personal site's URL."""
    return re.sub(r"[^0-9a-z]", "_", principal_name.lower())


def list_connections_with_object(
    db: sa.Connection, connection_id: int, resource: str, key: str
) -> list[int]:
    """Return the tenant's other connections with rows of the object, such as retired ones."""
    statement = text(_OTHER_CONNECTIONS.format(table=f"{DIRECTORY}.{resource}", owner=OWNER))
    return list(db.execute(statement, {"id": connection_id, "key": key}).scalars())
