"""Users."""

from typing import Final

from migrations.views.view import CUSTOMER, SEEN, AnalyticsView, Column, from_table, show_columns
from models.resources.users import USERS as _USERS

_EXTENSIONS: Final = tuple(
    Column(
        f"extension_attribute_{number}",
        f"t.on_premises_extension_attributes ->> 'extensionAttribute{number}'",
        f"extension attribute {number}, for which each organization has its own use; null where it"
        " is not set",
        personal=True,
    )
    for number in range(1, 16)
)

USERS: Final = AnalyticsView(
    "users",
    "Users that are not deleted",
    CUSTOMER
    + show_columns(
        _USERS,
        (
            *("id", "user_principal_name", "display_name", "mail", "job_title", "department"),
            *("company_name", "office_location", "employee_id", "employee_type", "user_type"),
            *("account_enabled", "city", "country", "usage_location", "created_date_time"),
            *("last_password_change_date_time", "on_premises_sync_enabled"),
            "external_user_state",
            Column(
                "license_count",
                "coalesce(jsonb_array_length(t.assigned_licenses), 0)",
                "how many licences are assigned; 0 where Graph sent none",
            ),
            *SEEN,
            *("creation_type", "external_user_state_change_date_time", "is_resource_account"),
            Column(
                "password_never_expires",
                "coalesce(t.password_policies like '%DisablePasswordExpiration%', false)",
                "whether its password is exempt from expiring",
            ),
            Column(
                "is_guest",
                "coalesce(t.user_type = 'Guest', false)",
                "whether it is a guest; false where Graph did not send the type",
            ),
        ),
        further=(
            Column(
                "division",
                "t.employee_org_data ->> 'division'",
                "division; null where it is not set",
                personal=True,
            ),
            Column(
                "cost_center",
                "t.employee_org_data ->> 'costCenter'",
                "cost centre; null where it is not set",
                personal=True,
            ),
            *_EXTENSIONS,
        ),
        apart=("assigned_licenses", "employee_org_data", "on_premises_extension_attributes"),
        defaults={"account_enabled": True},
    ),
    from_table(_USERS),
    key=("connection_id", "id"),
)
