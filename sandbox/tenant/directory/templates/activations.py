"""Instances of schedules: who may activate a role, and who holds one until when."""

from sandbox.tenant.directory.templates.roles import build_assignment_id
from sandbox.tenant.directory.templates.template import Props

NEVER = "0001-01-01T00:00:00Z"


def make_eligibility(
    role_id: str,
    principal_id: str,
    scope: str,
    *,
    start: str | None,
    end: str | None,
    member_type: str = "Direct",
) -> Props:
    own = build_assignment_id(role_id, principal_id, f"eligible {scope} {end}")
    return {
        "id": own.removesuffix("-1") + "-1-e",
        "principalId": principal_id,
        "roleDefinitionId": role_id,
        "directoryScopeId": scope,
        "appScopeId": None,
        "startDateTime": start,
        "endDateTime": end,
        "memberType": member_type,
        "roleEligibilityScheduleId": build_assignment_id(role_id, principal_id, f"plan {scope}"),
    }


def make_instance(
    assignment: Props, *, activated: bool, start: str | None, end: str | None
) -> Props:
    """Return the instance of an assignment; it has the assignment's id."""
    return {
        "id": assignment["id"],
        "principalId": assignment["principalId"],
        "roleDefinitionId": assignment["roleDefinitionId"],
        "directoryScopeId": assignment["directoryScopeId"],
        "appScopeId": None,
        "startDateTime": start,
        "endDateTime": end,
        "assignmentType": "Activated" if activated else "Assigned",
        "memberType": "Direct",
        "roleAssignmentOriginId": assignment["id"],
        "roleAssignmentScheduleId": assignment["id"],
    }
