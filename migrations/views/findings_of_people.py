"""Findings about accounts, and about who holds roles."""

from typing import Final

from migrations.views.finding_kind import ONE_ROW, FindingKind, count_noun, format_day

PENDING_DAYS: Final = 30
"""After which an invitation that is not redeemed is a finding."""

INACTIVE_DAYS: Final = 90
"""Without a successful sign-in after which a licensed user is a finding."""

_ADMINISTRATOR: Final = "62e90394-69f5-4237-9190-012177145e10"
_USER: Final = "'user', t.id::text, coalesce(t.display_name, t.user_principal_name, t.id::text)"
_HOLDER: Final = (
    "t.holder_type, t.holder_id::text,"
    " coalesce(t.holder_name, t.user_principal_name, t.holder_id::text)"
)
_HOLDS: Final = (
    "case t.state when 'eligible' then 'is eligible for ' else 'holds ' end"
    " || coalesce(t.role_name, t.role_definition_id::text)"
    " || case when t.path is null then '' else ' through ' || t.path end"
)
_USERS: Final = "from analytics.users t"
_INVITED: Final = "coalesce(t.external_user_state_change_date_time, t.created_date_time)"
_HOLDERS: Final = "from analytics.effective_role_holders t"
_NEEDS_OF_HOLDERS: Final = (
    *("users", "groups", "group_members", "role_definitions", "role_assignments"),
)
_FOREIGN: Final = "was registered by another organization and "

ACCOUNT_FINDINGS: Final = (
    FindingKind(
        code="disabled_user_in_groups",
        meaning="A user who cannot sign in is still a member of groups",
        severity="low",
        needs=("users", "group_members"),
        source=_USERS,
        beside="""(select count(*) as number from directory.group_members d
                       where d.connection_id = t.connection_id and d.member_id = t.id
                         and d.deleted_at is null having count(*) > 0) m""",
        where="not t.account_enabled",
        about=_USER,
        sentence=f"'is disabled and still a member of ' || {count_noun('m.number', 'group')}",
    ),
    FindingKind(
        code="disabled_user_with_license",
        meaning="A user who cannot sign in uses licences",
        severity="low",
        needs=("users",),
        source=_USERS,
        beside=ONE_ROW,
        where="not t.account_enabled and t.license_count > 0",
        about=_USER,
        sentence=f"'is disabled and has ' || {count_noun('t.license_count', 'licence')}",
    ),
    FindingKind(
        code="inactive_user_with_license",
        meaning=f"A user with licences has not signed in for {INACTIVE_DAYS} days",
        severity="low",
        needs=("users", "sign_in_activity"),
        source=f"""{_USERS}
         join directory.sign_in_activity i
           on i.connection_id = t.connection_id and i.id = t.id and i.deleted_at is null""",
        where="t.account_enabled and t.license_count > 0 and"
        f" i.last_successful_sign_in_date_time < now() - interval '{INACTIVE_DAYS} days'",
        about=_USER,
        sentence=f"'has ' || {count_noun('t.license_count', 'licence')}"
        f" || ' and last signed in on ' || {format_day('i.last_successful_sign_in_date_time')}",
        since="i.last_successful_sign_in_date_time",
    ),
    FindingKind(
        code="pending_guest",
        meaning=f"An invitation was not redeemed for {PENDING_DAYS} days",
        severity="low",
        needs=("users",),
        source=_USERS,
        beside=ONE_ROW,
        where="t.is_guest and t.external_user_state = 'PendingAcceptance'"
        f" and {_INVITED} < now() - interval '{PENDING_DAYS} days'",
        about=_USER,
        sentence=f"'has not redeemed the invitation since ' || {format_day(_INVITED)}",
        since=_INVITED,
    ),
)

ROLE_FINDINGS: Final = (
    FindingKind(
        code="disabled_user_with_role",
        meaning="A user who cannot sign in holds a role, and would have it again when enabled",
        severity="high",
        needs=_NEEDS_OF_HOLDERS,
        source=_HOLDERS,
        beside=ONE_ROW,
        where="t.holder_type = 'user' and not t.account_enabled",
        about=_HOLDER,
        sentence=f"'is disabled and ' || {_HOLDS}",
        since="t.starts_at",
    ),
    FindingKind(
        code="privileged_guest",
        meaning="A guest holds a privileged role",
        severity="high",
        needs=_NEEDS_OF_HOLDERS,
        source=_HOLDERS,
        beside=ONE_ROW,
        where="t.is_privileged and t.is_guest",
        about=_HOLDER,
        sentence=f"'is a guest and ' || {_HOLDS}",
        since="t.starts_at",
    ),
    FindingKind(
        code="privileged_synced_user",
        meaning="An account of Active Directory holds a privileged role: who takes over the one"
        " takes over the other",
        severity="medium",
        needs=_NEEDS_OF_HOLDERS,
        source=_HOLDERS,
        beside=ONE_ROW,
        where="t.is_privileged and t.on_premises_sync_enabled",
        about=_HOLDER,
        sentence=f"'is synchronized from Active Directory and ' || {_HOLDS}",
        since="t.starts_at",
    ),
    FindingKind(
        code="permanent_administrator",
        meaning="A user holds a privileged role all the time, where the licence allows to activate"
        " it when it is needed",
        severity="medium",
        needs=(*_NEEDS_OF_HOLDERS, "role_assignment_schedule_instances"),
        source=_HOLDERS,
        beside=ONE_ROW,
        where="t.is_privileged and t.is_permanent and t.holder_type = 'user'",
        about=_HOLDER,
        sentence=f"{_HOLDS} || ' without an end'",
        since="t.starts_at",
    ),
    FindingKind(
        code="foreign_application_with_role",
        meaning="An application of another organization holds a directory role",
        severity="high",
        needs=(*_NEEDS_OF_HOLDERS, "service_principals"),
        source=_HOLDERS,
        beside="""(select from analytics.service_principals p
                       where p.connection_id = t.connection_id and p.id = t.holder_id
                         and p.is_foreign) p""",
        where="t.holder_type = 'service_principal'",
        about=_HOLDER,
        sentence=f"'{_FOREIGN}' || {_HOLDS}",
        since="t.starts_at",
    ),
    FindingKind(
        code="number_of_global_administrators",
        meaning="There are fewer than two or more than eight Global Administrators who can sign in,"
        " those who are eligible and those through groups counted",
        severity="medium",
        needs=_NEEDS_OF_HOLDERS,
        source=f"""from analytics.connections t
        cross join lateral (
              select count(distinct h.holder_id) as number
                from analytics.effective_role_holders h
               where h.connection_id = t.connection_id and h.holder_type = 'user'
                 and h.account_enabled and h.role_template_id = '{_ADMINISTRATOR}') n""",
        where="n.number not between 2 and 8",
        about="'organization', t.connection_id::text,"
        " coalesce(t.organization, 'connection ' || t.connection_id)",
        sentence=f"'has ' || {count_noun('n.number', 'Global Administrator')}"
        " || ' who can sign in; there should be two to eight'",
    ),
    FindingKind(
        code="owner_of_role_group",
        meaning="An owner of a group that holds a role can become a member, and so hold the role",
        severity="medium",
        needs=("users", "groups", "group_owners", "role_assignments", "role_definitions"),
        source="""from (select a.connection_id, a.principal_id,
                     string_agg(distinct coalesce(a.role_name, a.role_definition_id::text), ', ')
                         as roles
                from analytics.role_assignments a
               where a.principal_type = 'group'
               group by a.connection_id, a.principal_id) a
         join analytics.group_owners t
           on t.connection_id = a.connection_id and t.group_id = a.principal_id""",
        where="t.owner_type = 'user'",
        about="'user', t.owner_id::text, coalesce(t.owner_name, t.owner_id::text)",
        sentence="'owns ' || coalesce(t.group_name, t.group_id::text) || ', which holds '"
        " || a.roles",
    ),
)
