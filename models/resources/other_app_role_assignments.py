"""App roles of all applications but Microsoft Graph: who may use them, and which applications.

The roles of Microsoft Graph are ``app_role_assignments``: one list. Those of the others are a list
for each service principal, so they cost many calls. Names are left out, as they are not kept up to
date.

https://learn.microsoft.com/graph/api/serviceprincipal-list-approleassignedto
"""

from typing import Final

from models.property import guid, text, timestamp
from models.resource import Resource, Verbs
from models.source import Below, ColumnValue, Source

_GRAPH: Final = "00000003-0000-0000-c000-000000000000"

OTHER_APP_ROLE_ASSIGNMENTS: Final = Resource(
    name="other_app_role_assignments",
    meaning="App roles of all applications but Microsoft Graph, and who holds them",
    graph_type="appRoleAssignment",
    permission="Application.Read.All",
    by_id="/servicePrincipals/{resource_id}/appRoleAssignedTo/{id}",
    source=Source(
        path="/servicePrincipals/{parent}/appRoleAssignedTo",
        page_size=999,  # without a size, Graph leaves out managed identities
        intervals=("other_app_roles_seconds",),
        below=Below(
            "resource_id",
            probe_path=f"/servicePrincipals(appId='{_GRAPH}')/appRoleAssignedTo",
            omits=ColumnValue("app_id", _GRAPH),
        ),
    ),
    event_noun="other_app_role",
    verbs=Verbs("assigned", "assignment_updated", "unassigned", restored="assigned"),
    phrase="{principal_id} as {app_role_id} of {resource_id}",
    is_optional=True,
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
            indexed=True,
        ),
        guid(
            "app_role_id",
            "the role, one of app_roles of that service principal; all zeros: access without one",
        ),
        timestamp("created_date_time", "when it was assigned"),
    ),
)
