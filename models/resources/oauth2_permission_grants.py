"""Consents to delegated permissions.

https://learn.microsoft.com/graph/api/resources/oauth2permissiongrant
"""

from collections.abc import Mapping
from typing import Any, Final

from models.property import facet, guid, text, texts
from models.resource import Resource
from models.source import Fallback, Mode, Source


def derive_columns(grant: Any) -> Mapping[str, object]:
    """Return the scopes, which Graph sends as one text that may begin with a blank."""
    return {"scopes": grant.scope.split() if isinstance(grant.scope, str) else grant.scope}


OAUTH2_PERMISSION_GRANTS: Final = Resource(
    name="oauth2_permission_grants",
    meaning="Delegated permissions that applications were granted, by one user or for all",
    graph_type="oAuth2PermissionGrant",
    permission="Directory.Read.All",
    by_id="/oauth2PermissionGrants/{id}",
    source=Source(
        path="/oauth2PermissionGrants",
        delta_path="/oauth2PermissionGrants/delta",
        page_size=999,
        intervals=("delta_seconds",),
    ),
    fallbacks=(
        Fallback(
            statuses=frozenset({400, 404, 501}),
            at_delta_start=True,
            source=Source(
                mode=Mode.LIST_ONLY,
                path="/oauth2PermissionGrants",
                page_size=999,
                intervals=("listing_seconds", "delta_seconds"),
            ),
        ),
    ),
    derive=derive_columns,
    event_noun="permission_grant",
    phrase="{client_id} to {resource_id}",
    properties=(
        text("id", "id of the grant; opaque text", key=True),
        guid(
            "client_id",
            "the service principal that may act for users",
            references=("service_principals",),
            indexed=True,
        ),
        text("consent_type", "AllPrincipals or Principal"),
        guid(
            "principal_id",
            "the user who consented; null where it holds for all users",
            references=("users",),
            indexed=True,
        ),
        guid(
            "resource_id",
            "the service principal whose permissions these are",
            references=("service_principals",),
        ),
        facet("scope", str, "names of the permissions, separated by blanks"),
        texts(
            "scopes",
            "names of the permissions, such as Mail.Read",
            unordered=True,
            derived=True,
            derived_from=("scope",),
        ),
    ),
)
