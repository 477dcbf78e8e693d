"""Findings about groups, applications and licences."""

from typing import Final

from migrations.views.finding_kind import FindingKind, format_day
from migrations.views.view import render_guid

ENDING_DAYS: Final = 30
"""Before the end of a credential or a group in which it is a finding."""

_GROUP: Final = "'group', t.id::text, coalesce(t.display_name, t.id::text)"
_GROUP_OF_EDGE: Final = "'group', t.group_id::text, coalesce(t.group_name, t.group_id::text)"
_GROUPS: Final = "from analytics.groups t"
_ABILITY: Final = """cross join lateral (
              select min(l.meaning) as meaning from analytics.privileged_permissions l
               where l.permission = t.permission and l.is_counted) l"""

_CIRCLES: Final = """from (
              select k.connection_id, k.group_id, k.via_id as through_id
                from directory.group_closure k
                join analytics.nesting n on n.connection_id = k.connection_id
               where k.inner_id = k.group_id and n.state not in ('not_known', 'too_large')
               union all
             (select distinct on (n.connection_id, o.id) n.connection_id, o.id, i.group_id
                from analytics.nesting n
                join directory.groups o
                  on o.connection_id = case when n.state <> 'complete' then n.connection_id end
               cross join lateral analytics.groups_inside(o.connection_id, o.id) i
                join directory.group_members d
                  on d.connection_id = o.connection_id and d.group_id = i.group_id
                 and d.member_id = o.id and d.deleted_at is null
               where n.state in ('not_known', 'too_large') and o.deleted_at is null
               order by n.connection_id, o.id, i.depth, i.group_id)) t
         left join directory.groups g on g.connection_id = t.connection_id and g.id = t.group_id
         left join directory.groups w
           on w.connection_id = t.connection_id and w.id = t.through_id"""
"""Groups that lie in themselves: by the closure where it is stored."""

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
          and (select m.member_id from directory.group_members m
                where m.connection_id = t.connection_id and m.group_id = t.id
                  and m.deleted_at is null limit 1) is null""",
        about=_GROUP,
        sentence="'has no member'",
    ),
    FindingKind(
        code="circular_nesting",
        meaning="Groups are members of each other in a circle",
        severity="medium",
        needs=("groups", "group_members"),
        source=_CIRCLES,
        about="'group', t.group_id::text, coalesce(g.display_name, t.group_id::text)",
        sentence="case when t.through_id = t.group_id then 'is a member of itself'"
        " else 'is a member of itself through '"
        " || coalesce(w.display_name, t.through_id::text) end",
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
        sentence=f"'expires on ' || {format_day('t.expiration_date_time')}",
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
        source=f"""from (select d.connection_id, d.id, l.permission, l.meaning,
                     {render_guid("role.one ->> 'id'")} as role_id
                from analytics.service_principals r
                join directory.service_principals d
                  on d.connection_id = r.connection_id and d.id = r.id
               cross join jsonb_array_elements(d.app_roles) as role (one)
                join (select permission, min(meaning) as meaning
                        from analytics.privileged_permissions
                       where is_counted group by permission) l
                  on l.permission = role.one ->> 'value'
               where r.is_microsoft) l
         join analytics.app_role_assignments t
           on t.connection_id = l.connection_id and t.resource_id = l.id
          and t.app_role_id = l.role_id
         join analytics.service_principals p
           on p.connection_id = t.connection_id and p.id = t.principal_id""",
        where="not p.is_microsoft",
        about="'service_principal', t.principal_id::text,"
        " coalesce(t.principal_name, t.principal_id::text)",
        sentence="case when p.is_foreign then 'was registered by another organization and '"
        " else '' end || 'has ' || l.permission || ': it can ' || l.meaning",
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
         join analytics.service_principals r
           on r.connection_id = t.connection_id and r.id = t.resource_id
        {_ABILITY}""",
        where="t.is_for_all_users and l.meaning is not null and not p.is_microsoft"
        " and r.is_microsoft",
        about="'service_principal', t.client_id::text, coalesce(t.client_name, t.client_id::text)",
        sentence="'has ' || t.permission || ' for all users: with their rights it can '"
        " || l.meaning",
    ),
    FindingKind(
        code="ending_credential",
        meaning=f"The last secret or certificate of a service principal ended, or does in"
        f" {ENDING_DAYS} days; those that only its registration has are not counted",
        severity="medium",
        needs=("service_principals",),
        source="""from (select connection_id, service_principal_id as id,
                     application_name as display_name, max(ends_at) as ends
                from analytics.application_credentials
               where not is_microsoft
               group by 1, 2, 3 having count(ends_at) = count(*)) t""",
        where=f"t.ends < now() + interval '{ENDING_DAYS} days'",
        about="'service_principal', t.id::text, coalesce(t.display_name, t.id::text)",
        sentence="'has no valid secret or certificate of its own '"
        f" || case when t.ends < now() then 'since ' else 'from ' end || {format_day('t.ends')}",
    ),
)

LICENSE_FINDINGS: Final = (
    FindingKind(
        code="license_exceeded",
        meaning="More units of a product are in use than were bought",
        severity="medium",
        needs=("subscribed_skus",),
        source="""from directory.subscribed_skus t
         left join analytics.product_names n on n.sku_id = t.sku_id""",
        where="t.deleted_at is null"
        " and t.consumed_units > t.prepaid_enabled + coalesce(t.prepaid_warning, 0)",
        about="'license', t.id, coalesce(n.name, t.sku_part_number, t.id)",
        sentence="'uses ' || t.consumed_units || ' of '"
        " || (t.prepaid_enabled + coalesce(t.prepaid_warning, 0)) || ' units'",
    ),
)
