"""What somebody has, such as a membership or a role: its two ends, and how its changes are said."""

from dataclasses import dataclass
from typing import Final

from models.resources import RESOURCES

_GUID: Final = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
DOCUMENT: Final = "coalesce(e.after, e.before)"


def as_guid(text: str) -> str:
    """Return a text as a uuid; null of others, such as ids of what was erased."""
    return f"case when {text} ~ '{_GUID}' then ({text})::uuid end"


def find_name(text: str, *tables: str) -> str:
    """Return the name of the object with this id, the first that there is, deleted or not."""
    every = "\n           union all ".join(
        f"select coalesce(nullif(x.{labels[0]}, ''), x.{labels[-1]})"
        f" from directory.{table} x where x.connection_id = e.connection_id"
        f" and x.id = {as_guid(text)}"
        for table in tables
        for labels in [RESOURCES[table].labels]
    )
    return f"({every} limit 1)"


def get_value(resource: str, column: str) -> str:
    """Return a column of the object, from its event or else from its row."""
    return (
        f"coalesce({DOCUMENT} ->> '{column}', (select x.{column}::text from directory.{resource} x"
        f" where x.connection_id = e.connection_id and x.id = e.object_id))"
    )


@dataclass(frozen=True)
class Relation:
    """Something that somebody has: SQL of both ids, and how its changes are said."""

    resource: str
    principal: str
    target: str
    target_table: str
    link: str
    """Stands between both names."""
    gained: str
    lost: str
    is_access: bool = True

    @property
    def target_name(self) -> str:
        return find_name("k.target_id", self.target_table)


def _relate_edge(resource: str, target_table: str, link: str, gained: str, lost: str) -> Relation:
    group, member = (f"split_part(e.object_id, '/', {place})" for place in (1, 2))
    return Relation(resource, member, group, target_table, link, gained, lost)


def _relate_role(resource: str, gained: str, lost: str) -> Relation:
    holder, role = get_value(resource, "principal_id"), get_value(resource, "role_definition_id")
    return Relation(resource, holder, role, "role_definitions", " as ", gained, lost)


def _relate_application(resource: str, principal: str, gained: str, lost: str) -> Relation:
    holder, application = get_value(resource, principal), get_value(resource, "resource_id")
    return Relation(resource, holder, application, "service_principals", " with ", gained, lost)


RELATIONS: Final = (
    _relate_edge(
        "group_members",
        "groups",
        " in ",
        "was added to the group",
        "was removed from the group",
    ),
    _relate_edge(
        "group_owners",
        "groups",
        " of ",
        "became an owner of the group",
        "is no longer an owner of the group",
    ),
    _relate_edge(
        "administrative_unit_members",
        "administrative_units",
        " in ",
        "was added to the administrative unit",
        "was removed from the administrative unit",
    ),
    _relate_role("role_assignments", "was given the role", "no longer has the role"),
    _relate_role(
        "role_eligibility_schedule_instances",
        "became eligible for the role",
        "is no longer eligible for the role",
    ),
    _relate_role(
        "role_assignment_schedule_instances",
        "began to hold, by its schedule, the role",
        "ceased to hold, by its schedule, the role",
    ),
    _relate_application(
        "app_role_assignments",
        "principal_id",
        "was granted the application permission",
        "lost the application permission",
    ),
    _relate_application(
        "other_app_role_assignments", "principal_id", "was assigned", "is no longer assigned"
    ),
    _relate_application(
        "oauth2_permission_grants",
        "client_id",
        "was granted delegated permissions of",
        "lost delegated permissions of",
    ),
    Relation(
        "managers",
        "e.object_id",
        "coalesce(e.after ->> 'manager_id', e.before ->> 'manager_id')",
        "users",
        " below ",
        "was given the manager",
        "no longer has the manager",
        is_access=False,
    ),
)
