"""Roles that principals are eligible for in Privileged Identity Management (PIM).

Graph has no delta for them, takes no ``$select``, and refuses a tenant without the licence.

https://learn.microsoft.com/graph/api/resources/unifiedroleeligibilityscheduleinstance
"""

from typing import Final

from models.property import guid, text, timestamp
from models.resource import Resource, Verbs
from models.source import Source

_PATH: Final = "/roleManagement/directory/roleEligibilityScheduleInstances"

ROLE_ELIGIBILITY_SCHEDULE_INSTANCES: Final = Resource(
    name="role_eligibility_schedule_instances",
    meaning="Directory roles that principals may activate now (PIM)",
    graph_type="unifiedRoleEligibilityScheduleInstance",
    permission="RoleManagement.Read.Directory",
    by_id=f"{_PATH}/{{id}}",
    source=Source(path=_PATH, select=False, intervals=("roles_seconds",)),
    event_noun="role_eligibility",
    verbs=Verbs("granted", "updated", "revoked", restored="granted"),
    phrase="{principal_id} as {role_definition_id}",
    properties=(
        text("id", "id of the eligibility; opaque text", key=True),
        guid(
            "principal_id",
            "the user, group or service principal that may activate the role",
            references=("users", "groups"),
            indexed=True,
        ),
        guid("role_definition_id", "the role", references=("role_definitions",)),
        text("directory_scope_id", "part of the directory in which it would hold; / is all of it"),
        text("app_scope_id", "part of an application in which it would hold"),
        timestamp("start_date_time", "since when the principal is eligible"),
        timestamp("end_date_time", "until when; null is without end"),
        text("member_type", "Direct, Group (through a group), or Inherited (from a wider scope)"),
        text("role_eligibility_schedule_id", "id of the schedule that made it"),
    ),
)
