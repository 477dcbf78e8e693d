"""Directory role assignments: principal, role and scope. Graph has no delta for them.

https://learn.microsoft.com/graph/api/resources/unifiedroleassignment
"""

from msgspec import UNSET
from sqlalchemy import Column, Index, Text, Uuid

from models.record import Guid, Record, Sent
from models.resource import Clock, Kind, Resource, mirror_table


class RoleAssignment(Record, frozen=True, kw_only=True, gc=False):
    principal_id: Sent[Guid] = UNSET
    role_definition_id: Sent[Guid] = UNSET
    directory_scope_id: Sent[str] = UNSET
    app_scope_id: Sent[str] = UNSET
    condition: Sent[str] = UNSET
    principal_organization_id: Sent[str] = UNSET


role_assignments = mirror_table(
    "role_assignments",
    Column("id", Text, primary_key=True),
    Column("principal_id", Uuid(as_uuid=False)),
    Column("role_definition_id", Uuid(as_uuid=False)),
    Column("directory_scope_id", Text),
    Column("app_scope_id", Text),
    Column("condition", Text),
    Column("principal_organization_id", Text),
    Index(None, "principal_id", "connection_id"),
    comment="Directory roles held by users, groups and service principals",
)

ROLE_ASSIGNMENTS = Resource(
    name="role_assignments",
    kind=Kind.SNAPSHOT,
    table=role_assignments,
    record=RoleAssignment,
    path="/roleManagement/directory/roleAssignments",
    by_id="/roleManagement/directory/roleAssignments/{id}",
    select=False,
    permission="RoleManagement.Read.Directory",
    clock=Clock(interval=15 * 60),
    event_noun="role",
)
