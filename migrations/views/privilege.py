"""Who holds directory roles, through groups too, and who is privileged."""

from typing import Final

from migrations.views.view import (
    CONNECTION_ID,
    CUSTOMER,
    SIGN_IN_NAME,
    AnalyticsView,
    Column,
    are_live,
    match_group,
    render_fresh_at,
)

_RESOURCES: Final = ("users", "groups", "group_members", "role_definitions", "role_assignments")
_UNIT: Final = "/administrativeUnits/"
_GUID: Final = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"

_HELD: Final = """(
       select a.connection_id, a.id, a.principal_id, a.role_definition_id, a.directory_scope_id,
              a.app_scope_id,
              case when i.assignment_type = 'Activated' then 'activated' else 'assigned' end
                  as state,
              i.start_date_time as starts_at, i.end_date_time as ends_at
         from directory.role_assignments a
         left join lateral (
              select s.assignment_type, s.start_date_time, s.end_date_time
                from directory.role_assignment_schedule_instances s
               where s.connection_id = a.connection_id and s.principal_id = a.principal_id
                 and s.role_assignment_origin_id = a.id and s.deleted_at is null
               order by s.id limit 1) i on true
        where a.deleted_at is null
        union all
       select e.connection_id, e.id, e.principal_id, e.role_definition_id, e.directory_scope_id,
              e.app_scope_id, 'eligible', e.start_date_time, e.end_date_time
         from directory.role_eligibility_schedule_instances e
        where e.deleted_at is null and coalesce(e.member_type, '') <> 'Group')"""
"""Roles by principal. Who is eligible through a group is found by its members, as for others."""

EFFECTIVE_ROLE_HOLDERS: Final = AnalyticsView(
    "effective_role_holders",
    "Who holds a directory role or is eligible for one, directly or through groups, a row for each"
    " holder, role and way",
    (
        *CUSTOMER,
        Column("holder_id", "x.holder_id", "the id of the holder", personal=True),
        Column(
            "holder_type",
            """case when u.id is not null then 'user' when p.id is not null then 'service_principal'
            else coalesce(x.member_type, 'unresolved') end""",
            "user, service_principal, or as what it is a member of a group: device, org_contact;"
            " unresolved where that is not known",
        ),
        Column(
            "holder_name",
            "coalesce(u.display_name, p.display_name)",
            "the name of a user or service principal; null of others, which are not mirrored",
            personal=True,
        ),
        SIGN_IN_NAME,
        Column(
            "account_enabled",
            "coalesce(u.account_enabled, p.account_enabled, true)",
            "whether sign-in is allowed; true where Graph sent nothing",
        ),
        Column(
            "is_guest", "coalesce(u.user_type = 'Guest', false)", "whether it is a user and a guest"
        ),
        Column(
            "on_premises_sync_enabled",
            "coalesce(u.on_premises_sync_enabled, false)",
            "whether it is a user that is synchronized from Active Directory",
        ),
        Column(
            "license_count",
            "coalesce(jsonb_array_length(u.assigned_licenses), 0)",
            "how many licences are assigned to a user; 0 of others",
        ),
        Column(
            "role_definition_id",
            "t.role_definition_id",
            "the id of the role definition; null where Graph did not send it",
            references="role_definitions",
        ),
        Column(
            "role_name",
            "d.display_name",
            "the name of the role; null where its definition is not mirrored",
        ),
        Column(
            "role_template_id",
            "d.template_id",
            "of a built-in role the same id in every tenant; null where its definition is not"
            " mirrored or has none",
        ),
        Column(
            "is_privileged",
            "coalesce(d.is_privileged, false)",
            "whether the role counts as privileged, as in analytics.role_definitions",
        ),
        Column(
            "counted_by",
            "d.counted_by",
            "whose lists say so, with commas between them; null where it does not count",
        ),
        Column(
            "state",
            "t.state",
            "assigned, activated (by somebody who is eligible, until ends_at), or eligible (may"
            " activate it)",
        ),
        Column(
            "is_permanent",
            "t.state = 'assigned' and t.ends_at is null",
            "whether it is assigned without an end; also true of an assignment whose schedule"
            " instance could not be read, see state_known",
        ),
        Column(
            "state_known",
            "coalesce(s.state_known, false)",
            "whether assigned and activated can be told apart: the schedule instances were read, or"
            " the tenant has no licence for them, without which nothing is activated",
        ),
        Column(
            "starts_at",
            "t.starts_at",
            "since when by its schedule; null where it has none or that is not mirrored",
        ),
        Column("ends_at", "t.ends_at", "until when by its schedule; null is without end"),
        Column(
            "directory_scope_id",
            "t.directory_scope_id",
            "what it is held over: / is the whole organization; null where app_scope_id tells it",
        ),
        Column(
            "app_scope_id",
            "t.app_scope_id",
            "what it is held over within an application; null where directory_scope_id tells it",
        ),
        Column(
            "scope_name",
            """case when t.directory_scope_id = '/' then 'the whole organization'
            when n.id is not null then n.display_name
            when o.id is not null then o.display_name
            when w.id is not null then w.display_name
            else coalesce(t.directory_scope_id, t.app_scope_id) end""",
            "the name of the administrative unit, application or group; its id where it is not"
            " mirrored; null where Graph sent none",
        ),
        Column(
            "group_id",
            "x.group_id",
            "the group that was given the role; null where the holder was",
            references="groups",
        ),
        Column(
            "group_name",
            "g.display_name",
            "the name of that group; null where the holder was given it",
            personal=True,
        ),
        Column(
            "depth",
            "x.depth",
            "groups between the role and the holder: 0 was given it, 1 is a direct member of a"
            " group that was",
        ),
        Column(
            "path",
            "x.path",
            "the names of the groups on the shortest way, with > between them; null where the"
            " holder was given it",
            personal=True,
        ),
        Column("assignment_id", "t.id", "the id of the assignment, or of the eligibility"),
        Column(
            "is_built_in",
            "coalesce(d.is_built_in, false)",
            "whether the role is one of Microsoft's; false where its definition is not mirrored",
        ),
    ),
    f"""
  from {_HELD} t
  join sync.connections c on c.id = t.connection_id and c.status <> 'retired'
  left join analytics.role_definitions d
    on d.connection_id = t.connection_id and d.id = t.role_definition_id
  left join directory.groups g
    on g.connection_id = t.connection_id and g.id = t.principal_id
  cross join lateral (
       select t.principal_id as holder_id, null::text as member_type, null::uuid as group_id,
              0 as depth, null::text as path
        where g.id is null
        union all
       select m.member_id, m.member_type, t.principal_id, m.depth + 1, m.path
         from (select e.member_id, max(nullif(e.member_type, 'other')) as member_type,
                      min(i.depth) as depth,
                      (array_agg(i.path order by i.depth, i.group_id))[1] as path
                 from analytics.groups_inside(
                          case when g.id is not null and g.deleted_at is null
                               then t.connection_id end, t.principal_id) i
                 join directory.group_members e
                   on e.connection_id = t.connection_id and e.group_id = i.group_id
                where e.deleted_at is null
                group by e.member_id) m
        where case when m.member_type is not null then m.member_type <> 'group'
                   else not exists (select from directory.groups k
                                     where k.connection_id = t.connection_id
                                       and k.id = m.member_id) end) x
  left join directory.users u on u.connection_id = t.connection_id and u.id = x.holder_id
  left join directory.service_principals p
    on p.connection_id = t.connection_id and p.id = x.holder_id
  left join directory.administrative_units n
    on n.connection_id = t.connection_id and n.deleted_at is null
   and n.id = case when t.directory_scope_id ~ '^{_UNIT}{_GUID}$'
                   then substr(t.directory_scope_id, {len(_UNIT) + 1})::uuid end
  left join directory.service_principals o
    on o.connection_id = t.connection_id and o.deleted_at is null
   and o.id = case when t.directory_scope_id ~ '^/{_GUID}$'
                   then substr(t.directory_scope_id, 2)::uuid end
  left join directory.groups w
    on w.connection_id = t.connection_id and w.deleted_at is null
   and w.id = case when t.directory_scope_id ~ '^/{_GUID}$'
                   then substr(t.directory_scope_id, 2)::uuid end
  left join (
       select f.connection_id,
              bool_or(f.fresh_at is not null or f.phase = 'not_licensed') as state_known
         from analytics.freshness f
        where f.resource = 'role_assignment_schedule_instances'
        group by f.connection_id) s
    on {match_group("s", ("connection_id", "t.connection_id"))}
 where {are_live("u", "p")}
""",
    key=("connection_id", "assignment_id", "holder_id"),
)

PRIVILEGED_USERS: Final = AnalyticsView(
    "privileged_users",
    "Users who hold a privileged role or are eligible for one, a row for each",
    (
        Column(
            "organization",
            "h.organization",
            "the name of the customer's organization; null until it was first read",
        ),
        Column(
            "connection_id",
            "h.connection_id",
            CONNECTION_ID.meaning,
            references="connections",
        ),
        Column("user_id", "h.holder_id", "the user's id", personal=True, references="users"),
        Column(
            "display_name",
            "h.holder_name",
            "the name for people; null where it is empty or Graph did not send it",
            personal=True,
        ),
        Column(
            "user_principal_name",
            "h.user_principal_name",
            "the sign-in name; null where Graph did not send it",
            personal=True,
        ),
        Column(
            "roles",
            "string_agg(distinct h.role_name, ', ')",
            "the names of the roles, with commas between them",
        ),
        Column("role_count", "count(distinct h.role_definition_id)", "how many roles these are"),
        Column(
            "counted_by",
            "string_agg(distinct l.source, ', ')",
            "whose lists call these roles privileged, with commas between them",
        ),
        Column(
            "is_global_administrator",
            "coalesce(bool_or(h.role_template_id = '62e90394-69f5-4237-9190-012177145e10'), false)",
            "whether Global Administrator is among them, also if only eligible",
        ),
        Column(
            "is_active",
            "bool_or(h.state <> 'eligible')",
            "whether one of them is held now: assigned or activated",
        ),
        Column(
            "is_permanent",
            "bool_or(h.is_permanent)",
            "whether one of them is assigned without an end, as in effective_role_holders",
        ),
        Column("is_eligible", "bool_or(h.state = 'eligible')", "whether one may be activated"),
        Column(
            "is_direct",
            "bool_or(h.depth = 0)",
            "whether one of them was given to the user, not to a group",
        ),
        Column("account_enabled", "bool_and(h.account_enabled)", "whether sign-in is allowed"),
        Column("is_guest", "bool_or(h.is_guest)", "whether it is a guest"),
        Column(
            "on_premises_sync_enabled",
            "bool_or(h.on_premises_sync_enabled)",
            "whether it is synchronized from Active Directory",
        ),
        Column(
            "license_count",
            "max(h.license_count)",
            "how many licences are assigned: an administrator's account should need none for mail",
        ),
        Column(
            "last_successful_sign_in_date_time",
            """(select i.last_successful_sign_in_date_time from directory.sign_in_activity i
          where i.connection_id = h.connection_id and i.id = h.holder_id
            and i.deleted_at is null)""",
            "last successful sign-in; null where sign-in activity is off, not licensed or has none,"
            " which does not mean never",
            personal=True,
        ),
        Column(
            "fresh_at",
            f"({render_fresh_at('h', *_RESOURCES)})",
            "all of it is at least as new as this; null where one of the resources was never read",
        ),
    ),
    """
  from analytics.effective_role_holders h
 cross join lateral unnest(string_to_array(h.counted_by, ', ')) as l (source)
 where h.is_privileged and h.holder_type = 'user'
 group by h.organization, h.connection_id, h.holder_id, h.holder_name, h.user_principal_name
""",
    key=("connection_id", "user_id"),
)
