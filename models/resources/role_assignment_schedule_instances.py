"""Roles that principals hold now, and how: assigned, or activated in PIM, and until when.

Graph has no delta for them, takes no ``$select``, and refuses a tenant without the licence.

https://learn.microsoft.com/graph/api/resources/unifiedroleassignmentscheduleinstance
"""

from typing import Final

from models.property import guid, text, timestamp
from models.resource import Resource
from models.source import Source

_PATH: Final = "/roleManagement/directory/roleAssignmentScheduleInstances"

ROLE_ASSIGNMENT_SCHEDULE_INSTANCES: Final = Resource(
    name="role_assignment_schedule_instances",
    meaning="Directory roles held now, assigned or activated, and until when (PIM)",
    graph_type="unifiedRoleAssignmentScheduleInstance",
    permission="RoleManagement.Read.Directory",
    by_id=f"{_PATH}/{{id}}",
    source=Source(path=_PATH, select=False, intervals=("roles_seconds",)),
    event_noun="role_assignment_instance",
    phrase="{principal_id} as {role_definition_id}",
    properties=(
        text("id", "id of the instance; opaque text", key=True),
        guid(
            "principal_id",
            "the user, group or service principal that holds the role",
            references=("users", "groups"),
            indexed=True,
        ),
        guid("role_definition_id", "the role", references=("role_definitions",)),
        text("directory_scope_id", "part of the directory in which it holds; / is all of it"),
        text("app_scope_id", "part of an application in which it holds"),
        timestamp("start_date_time", "since when it holds"),
        timestamp("end_date_time", "until when; null is permanent"),
        text("member_type", "Direct, Group (through a group), or Inherited (from a wider scope)"),
        text("assignment_type", "Assigned, or Activated by someone who is eligible"),
        text("role_assignment_origin_id", "the role assignment that it stands for"),
        text("role_assignment_schedule_id", "id of the schedule that made it"),
    ),
)
