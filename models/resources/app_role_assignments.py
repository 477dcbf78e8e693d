"""Application permissions of Microsoft Graph: which application has which.

They are the app roles that are assigned for Microsoft Graph's own service principal: one list. Its
names of principals and resources are left out, as they are not kept up to date.

https://learn.microsoft.com/graph/api/resources/approleassignment
"""

from typing import Final

from models.property import guid, text, timestamp
from models.resource import Resource, Verbs
from models.source import Source

_GRAPH: Final = "00000003-0000-0000-c000-000000000000"

APP_ROLE_ASSIGNMENTS: Final = Resource(
    name="app_role_assignments",
    meaning="Application permissions of Microsoft Graph that applications hold",
    graph_type="appRoleAssignment",
    permission="Application.Read.All",
    by_id="/servicePrincipals/{resource_id}/appRoleAssignedTo/{id}",
    source=Source(
        path=f"/servicePrincipals(appId='{_GRAPH}')/appRoleAssignedTo",
        page_size=999,  # without a size, Graph leaves out managed identities
        intervals=("app_roles_seconds",),
    ),
    event_noun="app_role",
    verbs=Verbs("assigned", "assignment_updated", "unassigned", restored="assigned"),
    phrase="{principal_id} as {app_role_id} of {resource_id}",
    properties=(
        text("id", "id of the assignment; opaque text", key=True),
        guid(
            "principal_id",
            "the service principal, user or group that holds the role",
            references=("users", "groups", "service_principals"),
            indexed=True,
        ),
        text("principal_type", "ServicePrincipal, User or Group"),
        guid(
            "resource_id",
            "the service principal whose role it is",
            references=("service_principals",),
        ),
        guid("app_role_id", "the role, one of app_roles of that service principal"),
        timestamp("created_date_time", "when it was assigned"),
    ),
)
