"""Directory role assignments: principal, role and scope. Graph has no delta for them.

https://learn.microsoft.com/graph/api/resources/unifiedroleassignment
"""

from typing import Final

from models.property import guid, text
from models.resource import Resource, Verbs
from models.source import Fallback, Mode, Source

_PATH: Final = "/roleManagement/directory/roleAssignments"

ROLE_ASSIGNMENTS: Final = Resource(
    name="role_assignments",
    meaning="Directory roles held by users, groups and service principals",
    graph_type="unifiedRoleAssignment",
    permission="RoleManagement.Read.Directory",
    by_id=f"{_PATH}/{{id}}",
    source=Source(path=_PATH, select=False, intervals=("roles_seconds",)),
    fallbacks=(
        Fallback(
            statuses=frozenset({400}),
            source=Source(
                mode=Mode.BY_DEFINITION,
                path=_PATH,
                select=False,
                intervals=("roles_filtered_seconds",),
                filtered_by="role_definition_id",
            ),
        ),
    ),
    event_noun="role",
    verbs=Verbs("assigned", "assignment_updated", "unassigned", restored="assigned"),
    phrase="{principal_id} as {role_definition_id}",
    properties=(
        text("id", "id of the assignment; opaque text", key=True),
        guid(
            "principal_id",
            "the user, group or service principal that holds the role",
            references=("users", "groups"),
            indexed=True,
        ),
        guid("role_definition_id", "the role", references=("role_definitions",)),
        text("directory_scope_id", "part of the directory in which it holds; / is all of it"),
        text("app_scope_id", "part of an application in which it holds"),
        text("condition", "condition under which it holds"),
        text("principal_organization_id", "tenant of the principal"),
    ),
)
