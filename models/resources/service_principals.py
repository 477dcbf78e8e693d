"""Service principals. https://learn.microsoft.com/graph/api/resources/serviceprincipal

Of a credential only what tells it apart and when it ends is decoded: no secret, hint, key or
thumbprint ever reaches a row, an event or a log.
"""

from typing import Final

import msgspec

from models.property import boolean, document, documents, guid, text, texts
from models.resource import Resource
from models.source import Fallback, Mode, Source


class Credential(msgspec.Struct, frozen=True, kw_only=True, rename="camel", gc=False):
    """What is kept of a certificate or a client secret."""

    key_id: str | None = None
    display_name: str | None = None
    start_date_time: str | None = None
    end_date_time: str | None = None


SERVICE_PRINCIPALS: Final = Resource(
    name="service_principals",
    meaning="Service principals: applications and managed identities of a tenant",
    graph_type="servicePrincipal",
    permission="Application.Read.All",
    by_id="/servicePrincipals/{id}",
    source=Source(
        path="/servicePrincipals",
        delta_path="/servicePrincipals/delta",
        page_size=999,
        intervals=("delta_seconds",),
    ),
    fallbacks=(
        Fallback(
            statuses=frozenset({400, 404, 501}),
            at_delta_start=True,
            source=Source(
                mode=Mode.LIST_ONLY,
                path="/servicePrincipals",
                page_size=999,
                intervals=("listing_seconds", "delta_seconds"),
            ),
        ),
    ),
    event_noun="service_principal",
    labels=("display_name",),
    properties=(
        guid("id", "id in Microsoft Entra", key=True),
        guid("app_id", "id of the application, the same in every tenant", indexed=True),
        text("display_name", "name of the application"),
        text("service_principal_type", "Application, ManagedIdentity, Legacy or SocialIdp"),
        boolean("account_enabled", "whether sign-in is allowed"),
        guid("app_owner_organization_id", "id of the tenant that registered the application"),
        boolean("app_role_assignment_required", "whether only who has an app role may use it"),
        texts("tags", "marks such as HideApp", unordered=True),
        text("sign_in_audience", "whose accounts may sign in, such as AzureADMyOrg"),
        document("verified_publisher", "publisher that Microsoft has verified"),
        text("disabled_by_microsoft_status", "why Microsoft has disabled it"),
        documents("app_roles", "roles that can be assigned for it", unordered=True),
        documents(
            "key_credentials",
            "certificates: id, name, begin and end only",
            unordered=True,
            keeps=Credential,
        ),
        documents(
            "password_credentials",
            "client secrets: id, name, begin and end only",
            unordered=True,
            keeps=Credential,
        ),
    ),
)
