"""Service principals, and what applications may do: by their own permissions and by consent."""

from typing import Final

from migrations.views.view import (
    CUSTOMER,
    SEEN,
    SINCE,
    AnalyticsView,
    Column,
    are_live,
    from_table,
    from_tables,
    join_named,
    show_columns,
)
from models.resources.app_role_assignments import APP_ROLE_ASSIGNMENTS as _APP_ROLE_ASSIGNMENTS
from models.resources.oauth2_permission_grants import (
    OAUTH2_PERMISSION_GRANTS as _OAUTH2_PERMISSION_GRANTS,
)
from models.resources.other_app_role_assignments import (
    OTHER_APP_ROLE_ASSIGNMENTS as _OTHER_APP_ROLE_ASSIGNMENTS,
)
from models.resources.service_principals import SERVICE_PRINCIPALS as _SERVICE_PRINCIPALS

_MICROSOFT: Final = (
    "('f8cdef31-a31e-4b4a-93e4-5f571e91255a', '72f988bf-86f1-41af-91ab-2d7cd011db47')"
)
"""The tenants that register Microsoft's own applications."""

_NOT_SENT: Final = "; null where Graph did not send it, so that it is not known"
_NOT_MIRRORED: Final = "; null where it has none or is not mirrored"

IS_MICROSOFT: Final = Column(
    "is_microsoft",
    f"coalesce(t.app_owner_organization_id in {_MICROSOFT}, false)",
    "whether Microsoft registered the application",
)
IS_FOREIGN: Final = Column(
    "is_foreign",
    f"""coalesce(t.app_owner_organization_id not in {_MICROSOFT}
           and t.app_owner_organization_id::text <> c.tenant_id::text, false)""",
    "whether another organization than the customer and Microsoft registered it; false where that"
    " is not known, as of managed identities",
)

SERVICE_PRINCIPALS: Final = AnalyticsView(
    "service_principals",
    "Service principals that are not deleted: applications and managed identities",
    CUSTOMER
    + show_columns(
        _SERVICE_PRINCIPALS,
        (
            *("id", "app_id", "display_name", "service_principal_type", "account_enabled"),
            "app_owner_organization_id",
            IS_MICROSOFT,
            IS_FOREIGN,
            *("app_role_assignment_required", "sign_in_audience", "disabled_by_microsoft_status"),
            Column(
                "verified_publisher_name",
                "t.verified_publisher ->> 'displayName'",
                "the publisher that Microsoft has verified; null where there is none",
            ),
            Column(
                "certificate_count",
                "coalesce(jsonb_array_length(t.key_credentials), 0)",
                "how many certificates it has; 0 where Graph sent none",
            ),
            Column(
                "secret_count",
                "coalesce(jsonb_array_length(t.password_credentials), 0)",
                "how many client secrets it has; 0 where Graph sent none",
            ),
            *SEEN,
        ),
        apart=("verified_publisher", "app_roles", "key_credentials", "password_credentials"),
        defaults={"account_enabled": True},
    ),
    from_table(_SERVICE_PRINCIPALS),
    key=("connection_id", "id"),
)

APP_ROLE_ASSIGNMENTS: Final = AnalyticsView(
    "app_role_assignments",
    "App roles that are held: application permissions of Microsoft Graph, and the roles of other"
    " applications where these are mirrored; without those of deleted holders and applications",
    (
        *CUSTOMER,
        Column("id", "t.id", "the id of the assignment"),
        Column("principal_id", "t.principal_id", f"who holds the role{_NOT_SENT}", personal=True),
        Column(
            "principal_name",
            "coalesce(p.display_name, u.display_name, g.display_name)",
            f"the name of the service principal, user or group{_NOT_MIRRORED}",
            personal=True,
        ),
        Column(
            "principal_type",
            """case when p.id is not null then 'service_principal'
            when u.id is not null then 'user' when g.id is not null then 'group'
            else coalesce(case t.principal_type when 'ServicePrincipal' then 'service_principal'
                               when 'User' then 'user' when 'Group' then 'group' end,
                          'unresolved') end""",
            "service_principal, user or group; unresolved where it is not known",
        ),
        Column(
            "resource_id",
            "t.resource_id",
            f"the service principal whose role it is{_NOT_SENT}",
            references="service_principals",
        ),
        Column(
            "resource_name",
            "r.display_name",
            f"the name of the application whose role it is, such as Microsoft Graph{_NOT_MIRRORED}",
        ),
        Column(
            "app_role_id",
            "t.app_role_id",
            f"the id of the role; all zeros is access without one{_NOT_SENT}",
        ),
        Column(
            "permission",
            """(select role.one ->> 'value' from jsonb_array_elements(r.app_roles) as role (one)
          where role.one ->> 'id' = t.app_role_id::text limit 1)""",
            "the name of the role or permission, such as Mail.Read; null where it has none or the"
            " application whose it is is not mirrored",
        ),
        Column(
            "created_date_time",
            "t.created_date_time",
            "when it was assigned, as Graph gives it; null where Graph did not send it",
        ),
        *SINCE,
    ),
    from_tables(
        (_APP_ROLE_ASSIGNMENTS, _OTHER_APP_ROLE_ASSIGNMENTS),
        (
            join_named("service_principals", "r", "resource_id"),
            join_named("service_principals", "p", "principal_id"),
            join_named("users", "u", "principal_id"),
            join_named("groups", "g", "principal_id"),
        ),
    )
    + f"   and {are_live('r', 'p', 'u', 'g')}",
    key=("connection_id", "id"),
)

PERMISSION_GRANTS: Final = AnalyticsView(
    "permission_grants",
    "Delegated permissions that applications were granted, a row for each, without those of deleted"
    " applications and users",
    (
        *CUSTOMER,
        Column("id", "t.id", "the id of the grant, which may be of several permissions"),
        Column("permission", "s.permission", "the name of the permission, such as Mail.Read"),
        Column(
            "client_id",
            "t.client_id",
            f"the service principal that may act for users{_NOT_SENT}",
            references="service_principals",
        ),
        Column(
            "client_name",
            "a.display_name",
            f"the name of the application that may act for users{_NOT_MIRRORED}",
        ),
        Column(
            "resource_id",
            "t.resource_id",
            f"the service principal whose permission it is{_NOT_SENT}",
            references="service_principals",
        ),
        Column(
            "resource_name",
            "r.display_name",
            f"the name of the application whose permission it is{_NOT_MIRRORED}",
        ),
        Column(
            "is_for_all_users",
            "coalesce(t.consent_type = 'AllPrincipals', false)",
            "whether it was granted for all users",
        ),
        Column(
            "principal_id",
            "t.principal_id",
            "who granted it for themselves; null where it holds for all users",
            personal=True,
            references="users",
        ),
        Column(
            "principal_name",
            "u.display_name",
            f"the name of that user{_NOT_MIRRORED}",
            personal=True,
        ),
        Column(
            "user_principal_name",
            "u.user_principal_name",
            f"the sign-in name of that user{_NOT_MIRRORED}",
            personal=True,
        ),
        *SINCE,
    ),
    from_table(
        _OAUTH2_PERMISSION_GRANTS,
        (
            """cross join lateral (
       select distinct o.one as permission from unnest(t.scopes) as o (one)) s""",
            join_named("service_principals", "a", "client_id"),
            join_named("service_principals", "r", "resource_id"),
            join_named("users", "u", "principal_id"),
        ),
    )
    + f"   and {are_live('a', 'r', 'u')}",
    key=("connection_id", "id", "permission"),
)
