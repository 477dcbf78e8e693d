"""What somebody should look at or mend: a row for each finding, with a code and a sentence."""

from dataclasses import dataclass
from typing import Final

from migrations.views.view import AnalyticsView, Column

PENDING_DAYS: Final = 30
"""After which an invitation that is not redeemed is a finding."""

ENDING_DAYS: Final = 30
"""Before the end of a credential or a group in which it is a finding."""

INACTIVE_DAYS: Final = 90
"""Without a successful sign-in after which a licensed user is a finding."""


@dataclass(frozen=True, kw_only=True)
class FindingKind:
    """A kind of finding, about those rows ``t`` of its source for which ``where`` holds."""

    code: str
    meaning: str
    severity: str
    needs: tuple[str, ...]
    """The resources that it is told from: all must have been read completely."""
    source: str
    """SQL from ``from`` on, without the condition."""
    where: str = "true"
    about: str
    """SQL of the type, the id and the name of the object."""
    sentence: str
    """SQL of the sentence without its first word, the name."""
    since: str = "null::timestamptz"


def _count(number: str, noun: str) -> str:
    """Return SQL of a number with its noun."""
    return f"{number} || case when {number} = 1 then ' {noun}' else ' {noun}s' end"


def _day(moment: str) -> str:
    return f"to_char({moment} at time zone 'UTC', 'YYYY-MM-DD')"


_ADMINISTRATOR: Final = "62e90394-69f5-4237-9190-012177145e10"
_USER: Final = "'user', t.id::text, coalesce(t.display_name, t.user_principal_name, t.id::text)"
_GUEST: Final = _USER
_GROUP: Final = "'group', t.id::text, coalesce(t.display_name, t.id::text)"
_GROUP_OF_EDGE: Final = "'group', t.group_id::text, coalesce(t.group_name, t.group_id::text)"
_HOLDER: Final = (
    "t.holder_type, t.holder_id::text,"
    " coalesce(t.holder_name, t.user_principal_name, t.holder_id::text)"
)
_HOLDS: Final = (
    "case t.state when 'eligible' then 'is eligible for ' else 'holds ' end"
    " || coalesce(t.role_name, t.role_definition_id::text)"
    " || case when t.path is null then '' else ' through ' || t.path end"
)
_FOREIGN: Final = "was registered by another organization and "
_ABILITY: Final = """cross join lateral (
              select min(l.meaning) as meaning from analytics.privileged_permissions l
               where l.permission = t.permission and l.is_counted) l"""

_USERS: Final = "from analytics.users t"
_GROUPS: Final = "from analytics.groups t"
_OWNERS: Final = "from analytics.group_owners t"
_HOLDERS: Final = """from analytics.effective_role_holders t
         left join directory.service_principals p
           on p.connection_id = t.connection_id and p.id = t.holder_id"""
_NEEDS_OF_HOLDERS: Final = (
    *("users", "groups", "group_members", "role_definitions", "role_assignments"),
)

ACCOUNT_FINDINGS: Final = (
    FindingKind(
        code="disabled_user_in_groups",
        meaning="A user who cannot sign in is still a member of groups",
        severity="low",
        needs=("users", "group_members"),
        source=f"""{_USERS}
         join lateral (select count(*) as number from directory.group_members d
                        where d.connection_id = t.connection_id and d.member_id = t.id
                          and d.deleted_at is null) m on m.number > 0""",
        where="not t.account_enabled",
        about=_USER,
        sentence=f"'is disabled and still a member of ' || {_count('m.number', 'group')}",
    ),
    FindingKind(
        code="disabled_user_with_license",
        meaning="A user who cannot sign in uses licences",
        severity="low",
        needs=("users",),
        source=_USERS,
        where="not t.account_enabled and t.license_count > 0",
        about=_USER,
        sentence=f"'is disabled and has ' || {_count('t.license_count', 'licence')}",
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
        sentence=f"'has ' || {_count('t.license_count', 'licence')} || ' and last signed in on '"
        f" || {_day('i.last_successful_sign_in_date_time')}",
        since="i.last_successful_sign_in_date_time",
    ),
    FindingKind(
        code="pending_guest",
        meaning=f"An invitation was not redeemed for {PENDING_DAYS} days",
        severity="low",
        needs=("users",),
        source="from analytics.guests t",
        where=f"t.pending_since < now() - interval '{PENDING_DAYS} days'",
        about=_GUEST,
        sentence=f"'has not redeemed the invitation since ' || {_day('t.pending_since')}",
        since="t.pending_since",
    ),
)

ROLE_FINDINGS: Final = (
    FindingKind(
        code="disabled_user_with_role",
        meaning="A user who cannot sign in holds a role, and would have it again when enabled",
        severity="high",
        needs=_NEEDS_OF_HOLDERS,
        source=_HOLDERS,
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
        where="exists (select from analytics.service_principals f where f.is_foreign"
        " and f.connection_id = p.connection_id and f.id = p.id)",
        about=_HOLDER,
        sentence=f"'{_FOREIGN}' || {_HOLDS}",
        since="t.starts_at",
    ),
    FindingKind(
        code="number_of_global_administrators",
        meaning="There are fewer than two or more than eight Global Administrators, those who are"
        " eligible and those through groups counted",
        severity="medium",
        needs=_NEEDS_OF_HOLDERS,
        source=f"""from analytics.connections t
        cross join lateral (
              select count(distinct h.holder_id) as number
                from analytics.effective_role_holders h
               where h.connection_id = t.connection_id and h.holder_type = 'user'
                 and h.role_template_id = '{_ADMINISTRATOR}') n""",
        where="n.number not between 2 and 8",
        about="'organization', t.connection_id::text,"
        " coalesce(t.organization, 'connection ' || t.connection_id)",
        sentence=f"'has ' || {_count('n.number', 'Global Administrator')}"
        " || '; there should be two to eight'",
    ),
    FindingKind(
        code="owner_of_role_group",
        meaning="An owner of a group that holds a role can become a member, and so hold the role",
        severity="medium",
        needs=("users", "groups", "group_owners", "role_assignments", "role_definitions"),
        source=f"""{_OWNERS}
         join lateral (
              select string_agg(distinct coalesce(a.role_name, a.role_definition_id::text), ', ')
                         as roles
                from analytics.role_assignments a
               where a.connection_id = t.connection_id and a.principal_id = t.group_id) a
           on a.roles is not null""",
        where="t.owner_type = 'user'",
        about="'user', t.owner_id::text, coalesce(t.owner_name, t.owner_id::text)",
        sentence="'owns ' || coalesce(t.group_name, t.group_id::text) || ', which holds '"
        " || a.roles",
    ),
)

GROUP_FINDINGS: Final = (
    FindingKind(
        code="ownerless_group",
        meaning="A group that people manage in the cloud has no owner",
        severity="low",
        needs=("groups", "group_owners"),
        source=_GROUPS,
        where="""not t.is_dynamic and not t.on_premises_sync_enabled
          and not exists (select from directory.group_owners o
                           where o.connection_id = t.connection_id and o.group_id = t.id
                             and o.deleted_at is null)""",
        about=_GROUP,
        sentence="'has no owner'",
    ),
    FindingKind(
        code="group_of_disabled_owners",
        meaning="No owner of a group can sign in",
        severity="low",
        needs=("users", "groups", "group_owners"),
        source="""from (select o.connection_id, o.group_id, o.group_name,
                     string_agg(coalesce(o.owner_name, o.owner_id::text), ', '
                                order by o.owner_name, o.owner_id) as owners
                from analytics.group_owners o
                left join directory.users u
                  on u.connection_id = o.connection_id and u.id = o.owner_id
               group by o.connection_id, o.group_id, o.group_name
              having bool_and(u.account_enabled is false)) t""",
        about=_GROUP_OF_EDGE,
        sentence="'is owned only by ' || t.owners || ', who cannot sign in'",
    ),
    FindingKind(
        code="empty_group",
        meaning="A group has no member at all",
        severity="low",
        needs=("groups", "group_members"),
        source=_GROUPS,
        where="""t.visibility is distinct from 'HiddenMembership'
          and not exists (select from directory.group_members m
                           where m.connection_id = t.connection_id and m.group_id = t.id
                             and m.deleted_at is null)""",
        about=_GROUP,
        sentence="'has no member'",
    ),
    FindingKind(
        code="circular_nesting",
        meaning="Groups are members of each other in a circle",
        severity="medium",
        needs=("groups", "group_members"),
        source="from analytics.effective_group_members t",
        where="t.member_type = 'group' and t.member_id = t.group_id",
        about=_GROUP_OF_EDGE,
        sentence="case when t.depth = 0 then 'is a member of itself'"
        " else 'is a member of itself through '"
        " || coalesce(t.through_group_name, t.through_group_id::text) end",
    ),
    FindingKind(
        code="paused_dynamic_group",
        meaning="The rule of a dynamic group is not processed, so its members do not follow it",
        severity="medium",
        needs=("groups",),
        source=_GROUPS,
        where="t.is_dynamic and t.membership_rule_processing_state = 'Paused'",
        about=_GROUP,
        sentence="'has a rule that is paused'",
    ),
    FindingKind(
        code="expiring_group",
        meaning=f"A group is deleted within {ENDING_DAYS} days unless it is renewed",
        severity="low",
        needs=("groups",),
        source=_GROUPS,
        where=f"t.expiration_date_time < now() + interval '{ENDING_DAYS} days'",
        about=_GROUP,
        sentence=f"'expires on ' || {_day('t.expiration_date_time')}",
    ),
    FindingKind(
        code="public_group",
        meaning="Everybody in the organization can join a group and read what is in it",
        severity="low",
        needs=("groups",),
        source=_GROUPS,
        where="t.is_microsoft_365 and t.visibility = 'Public'",
        about=_GROUP,
        sentence="'is public'",
    ),
)

APPLICATION_FINDINGS: Final = (
    FindingKind(
        code="application_with_privileged_permission",
        meaning="An application that is not Microsoft's has an application permission that makes it"
        " privileged",
        severity="high",
        needs=("service_principals", "app_role_assignments"),
        source=f"""from analytics.app_role_assignments t
         join analytics.service_principals p
           on p.connection_id = t.connection_id and p.id = t.principal_id
         join analytics.service_principals r
           on r.connection_id = t.connection_id and r.id = t.resource_id
        {_ABILITY}""",
        where="l.meaning is not null and r.is_microsoft and not p.is_microsoft",
        about="'service_principal', t.principal_id::text,"
        " coalesce(t.principal_name, t.principal_id::text)",
        sentence=f"case when p.is_foreign then '{_FOREIGN}' else '' end"
        " || 'has ' || t.permission || ': it can ' || l.meaning",
        since="t.created_date_time",
    ),
    FindingKind(
        code="consent_for_all_with_privileged_permission",
        meaning="An application that is not Microsoft's may use a privileged permission of"
        " Microsoft Graph as anybody who signs in",
        severity="medium",
        needs=("service_principals", "oauth2_permission_grants"),
        source=f"""from analytics.permission_grants t
         join analytics.service_principals p
           on p.connection_id = t.connection_id and p.id = t.client_id
        {_ABILITY}""",
        where="t.is_for_all_users and l.meaning is not null and not p.is_microsoft",
        about="'service_principal', t.client_id::text, coalesce(t.client_name, t.client_id::text)",
        sentence="'has ' || t.permission || ' for all users: with their rights it can '"
        " || l.meaning",
    ),
    FindingKind(
        code="ending_credential",
        meaning=f"The last secret or certificate of an application ended, or does in {ENDING_DAYS}"
        " days",
        severity="medium",
        needs=("service_principals",),
        source="""from analytics.service_principals t
         join directory.service_principals d
           on d.connection_id = t.connection_id and d.id = t.id
        cross join lateral (
              select max((one ->> 'endDateTime')::timestamptz) as ends
                from jsonb_array_elements(coalesce(d.key_credentials, '[]')
                                          || coalesce(d.password_credentials, '[]')) one) k""",
        where=f"not t.is_microsoft and k.ends < now() + interval '{ENDING_DAYS} days'",
        about="'service_principal', t.id::text, coalesce(t.display_name, t.id::text)",
        sentence="case when k.ends < now() then 'has no valid secret or certificate since '"
        f" else 'has no valid secret or certificate from ' end || {_day('k.ends')}",
    ),
)

LICENSE_FINDINGS: Final = (
    FindingKind(
        code="license_exceeded",
        meaning="More units of a product are in use than were bought",
        severity="medium",
        needs=("subscribed_skus",),
        source="from analytics.licenses t",
        where="t.consumed_units > t.prepaid_enabled + coalesce(t.prepaid_warning, 0)",
        about="'license', t.id, coalesce(t.product_name, t.id)",
        sentence="'uses ' || t.consumed_units || ' of '"
        " || (t.prepaid_enabled + coalesce(t.prepaid_warning, 0)) || ' units'",
    ),
)

FINDING_KINDS: Final = (
    ACCOUNT_FINDINGS + ROLE_FINDINGS + GROUP_FINDINGS + APPLICATION_FINDINGS + LICENSE_FINDINGS
)


def _render_kind(finding: FindingKind) -> str:
    """Return a query of its own: a filter by code leaves out all others when it is planned."""
    code, severity = f"'{finding.code}'::text", f"'{finding.severity}'::text"
    needs = ", ".join(f"'{one}'" for one in finding.needs)
    object_type, object_id, object_name = finding.about.split(", ", 2)
    return f"""select t.connection_id, {code} as code, {severity} as severity,
              {object_type} as object_type, {object_id} as object_id,
              {object_name} as object_name,
              {finding.sentence} as sentence, {finding.since} as since,
              array[{needs}] as needs
         {finding.source}
        where {finding.where}"""


def _render_found() -> str:
    return "\n        union all\n       ".join(_render_kind(one) for one in FINDING_KINDS)


FINDINGS: Final = AnalyticsView(
    "findings",
    "What somebody should look at or mend, a row for each finding; none where a resource that it is"
    " told from is off, refused or not read yet",
    (
        Column(
            "organization",
            "c.display_name",
            "the name of the customer's organization; null until it was first read",
        ),
        Column(
            "connection_id",
            "t.connection_id",
            "our number of the connection, which is never used again",
            references="connections",
        ),
        Column(
            "code",
            "t.code",
            "the kind of finding: " + ", ".join(one.code for one in FINDING_KINDS),
        ),
        Column("severity", "t.severity", "high, medium or low"),
        Column(
            "object_type",
            "t.object_type",
            "what it is about: user, group, service_principal, license or organization",
        ),
        Column("object_id", "t.object_id", "the id of the object", personal=True),
        Column("object_name", "t.object_name", "its name, or its id without one", personal=True),
        Column(
            "sentence",
            "t.object_name || ' ' || t.sentence",
            "what is found, in words",
            personal=True,
        ),
        Column("since", "t.since", "since when, as Graph gives it; null where that is not known"),
    ),
    f"""
  from ({_render_found()}) t
  join sync.connections c on c.id = t.connection_id and c.status <> 'retired'
  join (select f.connection_id, array_agg(f.resource) as readable
          from analytics.freshness f
         where f.fresh_at is not null and f.phase not in ('off', 'refused', 'not_licensed')
         group by f.connection_id) k
    on k.connection_id = t.connection_id and k.readable @> t.needs
""",
    key=("connection_id", "code", "object_id", "sentence"),
)
