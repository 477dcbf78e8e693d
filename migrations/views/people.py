"""Users, guests and deleted ones among them, and their mail addresses."""

from typing import Final

from migrations.views.view import (
    CUSTOMER,
    NULL_IF_UNSET,
    SEEN,
    AnalyticsView,
    Column,
    from_table,
    show_columns,
)
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

_DELETED: Final = """
  from directory.users t
  join sync.connections c on c.id = t.connection_id and c.status <> 'retired'
 where t.deleted_reason is not null
"""
"""Asks for the reason, as the index of deleted rows, of all customers, would be read for a time."""

DELETED_USERS: Final = AnalyticsView(
    "deleted_users",
    "Users that were deleted and are still stored here, with the evidence; without those that were"
    " erased",
    (
        *CUSTOMER,
        Column("id", "t.id", "the id that the user had"),
        Column(
            "user_principal_name",
            "t.user_principal_name",
            f"the last known sign-in name; {NULL_IF_UNSET}",
            personal=True,
        ),
        Column(
            "display_name",
            "t.display_name",
            f"the last known name; {NULL_IF_UNSET}",
            personal=True,
        ),
        Column(
            "is_guest",
            "coalesce(t.user_type = 'Guest', false)",
            "whether it was a guest; false where Graph sent no type",
        ),
        Column(
            "deleted_at",
            "t.deleted_at",
            "when it was seen here that the user is deleted",
            personal=True,
        ),
        Column(
            "deleted_reason",
            "t.deleted_reason",
            "soft_deleted or permanently_deleted, as Graph said, or not_seen: a complete walk did"
            " not see the user, and a read by id did not find it",
        ),
        Column(
            "first_seen_at",
            "t.first_seen_at",
            "when the row was first stored; it may have been deleted and restored since",
        ),
    ),
    _DELETED,
    key=("connection_id", "id"),
)

_PENDING: Final = "coalesce(t.external_user_state = 'PendingAcceptance', false)"

GUESTS: Final = AnalyticsView(
    "guests",
    "Guests that are not deleted. Sponsors are not mirrored, so a guest without one is not told",
    (
        *CUSTOMER,
        Column("id", "t.id", "the guest's id", references="users"),
        Column(
            "user_principal_name",
            "t.user_principal_name",
            f"name to sign in with; {NULL_IF_UNSET}",
            personal=True,
        ),
        Column(
            "display_name",
            "t.display_name",
            f"name in address books; {NULL_IF_UNSET}",
            personal=True,
        ),
        Column("mail", "t.mail", f"primary mail address; {NULL_IF_UNSET}", personal=True),
        Column(
            "home_domain",
            """lower(coalesce(nullif(split_part(t.mail, '@', 2), ''),
                     substring(t.user_principal_name from '_([^_]+)#EXT#@'),
                     nullif(split_part(t.user_principal_name, '@', 2), '')))""",
            "the domain of the mail address, in lower case; without one, that of the name that was"
            " invited, or to sign in with; null where none is known",
        ),
        Column(
            "invitation_state",
            "t.external_user_state",
            "PendingAcceptance or Accepted; null where the guest was not invited, or Graph did not"
            " send it",
        ),
        Column(
            "invitation_state_since",
            "t.external_user_state_change_date_time",
            "since when the invitation is in this state, as Graph gives it; null where Graph did"
            " not send it",
        ),
        Column(
            "is_pending", _PENDING, "whether the invitation was never redeemed; false if unknown"
        ),
        Column(
            "pending_since",
            f"""case when {_PENDING}
            then coalesce(t.external_user_state_change_date_time, t.created_date_time) end""",
            "since when the invitation waits: now() - pending_since is for how long; null where it"
            " does not wait, or Graph sent no time",
        ),
        Column(
            "creation_type",
            "t.creation_type",
            "Invitation, EmailVerified, SelfServiceSignUp and such; null where it was created like"
            " a member, or Graph did not send it",
        ),
        Column(
            "account_enabled",
            "coalesce(t.account_enabled, true)",
            "whether sign-in is allowed; true where Graph sent nothing",
        ),
        Column(
            "company_name",
            "t.company_name",
            f"company; {NULL_IF_UNSET}",
        ),
        Column(
            "created_date_time",
            "t.created_date_time",
            f"when it was created in Microsoft Entra; {NULL_IF_UNSET}",
        ),
        *SEEN,
    ),
    from_table(_USERS) + "   and t.user_type = 'Guest'",
    key=("connection_id", "id"),
)

USER_MAIL_ADDRESSES: Final = AnalyticsView(
    "user_mail_addresses",
    "Mail addresses of users that are not deleted, a row for each address of each kind",
    (
        *CUSTOMER,
        Column("user_id", "t.id", "the user's id", personal=True, references="users"),
        Column(
            "user_principal_name",
            "t.user_principal_name",
            f"the user's sign-in name; {NULL_IF_UNSET}",
            personal=True,
        ),
        Column(
            "display_name", "t.display_name", f"the user's name; {NULL_IF_UNSET}", personal=True
        ),
        Column("address", "a.address", "the address, in lower case", personal=True),
        Column(
            "domain",
            "nullif(split_part(a.address, '@', 2), '')",
            "the domain of the address; null where the address has none",
        ),
        Column(
            "kind",
            "a.kind",
            "mail, proxy (of proxy_addresses, only those for mail) or other (of other_mails)",
        ),
        Column(
            "is_primary",
            "a.is_primary",
            "whether it is the primary address: of kind mail, or written SMTP: among the proxies",
        ),
        Column(
            "account_enabled",
            "coalesce(t.account_enabled, true)",
            "whether sign-in is allowed; true where Graph sent nothing",
        ),
        Column(
            "is_guest",
            "coalesce(t.user_type = 'Guest', false)",
            "whether it is a guest; false where Graph did not send the type",
        ),
    ),
    from_table(
        _USERS,
        (
            """cross join lateral (
       select lower(t.mail) as address, 'mail' as kind, true as is_primary
        where t.mail <> ''
        union all
       select lower(substr(p.one, 6)), 'proxy', bool_or(p.one like 'SMTP:%')
         from unnest(t.proxy_addresses) as p (one) where p.one ilike 'smtp:_%' group by 1
        union all
       select distinct lower(o.one), 'other', false
         from unnest(t.other_mails) as o (one) where o.one <> '') a""",
        ),
    ),
    key=("connection_id", "user_id", "kind", "address"),
)
