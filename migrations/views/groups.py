"""Groups, their direct members and their owners."""

from typing import Final

from migrations.views.view import (
    CUSTOMER,
    SEEN,
    SIGN_IN_NAME,
    SINCE,
    AnalyticsView,
    Column,
    are_live,
    from_edges,
    from_table,
    join_named,
    show_columns,
)
from models.resources.group_members import GROUP_MEMBERS as _GROUP_MEMBERS
from models.resources.group_owners import GROUP_OWNERS as _GROUP_OWNERS
from models.resources.groups import GROUPS as _GROUPS

GROUPS: Final = AnalyticsView(
    "groups",
    "Groups that are not deleted",
    CUSTOMER
    + show_columns(
        _GROUPS,
        (
            *("id", "display_name", "description", "mail", "visibility", "security_enabled"),
            "mail_enabled",
            Column(
                "is_microsoft_365",
                "coalesce('Unified' = any(t.group_types), false)",
                "whether it is a Microsoft 365 group",
            ),
            Column(
                "is_dynamic",
                "coalesce('DynamicMembership' = any(t.group_types), false)",
                "whether a rule decides who is a member",
            ),
            *("is_assignable_to_role", "membership_rule", "created_date_time"),
            "expiration_date_time",
            *SEEN,
            Column(
                "license_count",
                "coalesce(jsonb_array_length(t.assigned_licenses), 0)",
                "how many licences its members inherit; 0 where Graph sent none",
            ),
            "is_management_restricted",
        ),
        further=(
            Column(
                "is_team",
                "coalesce('Team' = any(t.resource_provisioning_options), false)",
                "whether it has a team in Microsoft Teams",
            ),
        ),
        apart=("group_types", "assigned_licenses"),
    ),
    from_table(_GROUPS),
    key=("connection_id", "id"),
)

GROUP_MEMBERS: Final = AnalyticsView(
    "group_members",
    "Direct memberships that have not ended. Those of a group with visibility HiddenMembership are"
    " there only where Member.Read.Hidden is granted",
    (
        *CUSTOMER,
        Column("group_id", "t.group_id", "the group's id", references="groups"),
        Column(
            "group_name",
            "g.display_name",
            "the group's name; null where it is empty or the group is not mirrored",
            personal=True,
        ),
        Column("member_id", "t.member_id", "the member's id", personal=True),
        Column(
            "member_type",
            "t.member_type",
            "user, group, device, service_principal or org_contact; unresolved where Graph did not"
            " name a type that is known",
        ),
        Column(
            "member_name",
            "coalesce(u.display_name, m.display_name, p.display_name)",
            "the name of a user, group or service principal; null of others, which are not"
            " mirrored",
            personal=True,
        ),
        SIGN_IN_NAME,
        *SINCE,
    ),
    from_edges(
        _GROUP_MEMBERS,
        "member_type",
        {"user": "users", "group": "groups", "service_principal": "service_principals"},
        (
            join_named("groups", "g", "group_id"),
            join_named("users", "u", "member_id"),
            join_named("groups", "m", "member_id"),
            join_named("service_principals", "p", "member_id"),
        ),
    ),
    key=("connection_id", "group_id", "member_id"),
)

GROUP_OWNERS: Final = AnalyticsView(
    "group_owners",
    "Owners of groups, as long as neither of both is deleted",
    (
        *CUSTOMER,
        Column("group_id", "t.group_id", "the group's id", references="groups"),
        Column(
            "group_name",
            "g.display_name",
            "the group's name; null where it is empty or the group is not mirrored",
            personal=True,
        ),
        Column("owner_id", "t.owner_id", "the owner's id", personal=True),
        Column(
            "owner_type",
            """case when t.owner_type <> 'other' then t.owner_type
            when u.id is not null then 'user' when p.id is not null then 'service_principal'
            else 'unresolved' end""",
            "user or service_principal; unresolved where Graph did not name a type that is known",
        ),
        Column(
            "owner_name",
            "coalesce(u.display_name, p.display_name)",
            "the name of a user or service principal; null of others, which are not mirrored",
            personal=True,
        ),
        SIGN_IN_NAME,
        Column(
            "owner_account_enabled",
            "coalesce(u.account_enabled, p.account_enabled, true)",
            "whether the owner may sign in; true where that is not known",
        ),
        *SINCE,
    ),
    from_table(
        _GROUP_OWNERS,
        (
            join_named("groups", "g", "group_id"),
            join_named("users", "u", "owner_id"),
            join_named("service_principals", "p", "owner_id"),
        ),
    )
    + f"   and {are_live('g', 'u', 'p')}",
    key=("connection_id", "group_id", "owner_id"),
)
