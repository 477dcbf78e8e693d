"""Views for people name service principals, and show more of users and groups."""

from alembic import op

revision = "0047"
down_revision = "0046"
branch_labels = None
depends_on = None

_LIVE = """
      join sync.connections c on c.id = t.connection_id and c.status <> 'retired'
     where t.deleted_at is null
"""
_USERS = """
    select c.display_name as organization, t.connection_id, t.id, t.user_principal_name,
           t.display_name, t.mail, t.job_title, t.department, t.company_name,
           t.office_location, t.employee_id, t.employee_type, t.user_type,
           t.account_enabled, t.city, t.country, t.usage_location,
           t.created_date_time, t.last_password_change_date_time,
           coalesce(t.on_premises_sync_enabled, false) as on_premises_sync_enabled,
           t.external_user_state,
           coalesce(jsonb_array_length(t.assigned_licenses), 0) as license_count,
           t.first_seen_at, t.changed_at {further}
      from directory.users t {live}
"""
_FURTHER_OF_USERS = """,
           t.creation_type, t.external_user_state_change_date_time,
           coalesce(t.is_resource_account, false) as is_resource_account,
           coalesce(t.password_policies like '%DisablePasswordExpiration%', false)
               as password_never_expires
"""
_GROUPS = """
    select c.display_name as organization, t.connection_id, t.id, t.display_name,
           t.description, t.mail, t.visibility, t.security_enabled, t.mail_enabled,
           coalesce('Unified' = any(t.group_types), false) as is_microsoft_365,
           coalesce('DynamicMembership' = any(t.group_types), false) as is_dynamic,
           coalesce(t.is_assignable_to_role, false) as is_assignable_to_role,
           t.membership_rule, t.created_date_time, t.expiration_date_time,
           t.first_seen_at, t.changed_at {further}
      from directory.groups t {live}
"""
_FURTHER_OF_GROUPS = """,
           coalesce(jsonb_array_length(t.assigned_licenses), 0) as license_count,
           coalesce(t.is_management_restricted, false) as is_management_restricted
"""
_PRINCIPALS = """
    select c.display_name as organization, t.connection_id, t.id, t.app_id, t.display_name,
           t.service_principal_type, t.account_enabled, t.app_owner_organization_id,
           coalesce(t.app_owner_organization_id in ('f8cdef31-a31e-4b4a-93e4-5f571e91255a',
                                                    '72f988bf-86f1-41af-91ab-2d7cd011db47'), false)
               as is_microsoft,
           coalesce(t.app_owner_organization_id not in ('f8cdef31-a31e-4b4a-93e4-5f571e91255a',
                                                        '72f988bf-86f1-41af-91ab-2d7cd011db47')
                    and t.app_owner_organization_id::text <> c.tenant_id::text, false)
               as is_foreign,
           coalesce(t.app_role_assignment_required, false) as app_role_assignment_required,
           t.sign_in_audience, t.disabled_by_microsoft_status,
           t.verified_publisher ->> 'displayName' as verified_publisher_name,
           coalesce(jsonb_array_length(t.key_credentials), 0) as certificate_count,
           coalesce(jsonb_array_length(t.password_credentials), 0) as secret_count,
           t.first_seen_at, t.changed_at
      from directory.service_principals t {live}
"""
_MEMBERS = """
    select c.display_name as organization, t.connection_id, t.group_id,
           g.display_name as group_name, t.member_id,
           case when t.member_type <> 'other' then t.member_type
                when u.id is not null then 'user' when m.id is not null then 'group'
                {member_type} else 'unresolved' end as member_type,
           coalesce(u.display_name, m.display_name {name}) as member_name, u.user_principal_name,
           t.live_since as since, t.live_since is not null as since_exact,
           coalesce(t.live_since, t.changed_at) as at_least_since
      from directory.group_members t
      left join directory.groups g
        on g.connection_id = t.connection_id and g.id = t.group_id
      left join directory.users u
        on u.connection_id = t.connection_id and u.id = t.member_id
      left join directory.groups m
        on m.connection_id = t.connection_id and m.id = t.member_id
      {join_member} {live}
"""
_ASSIGNMENTS = """
    select c.display_name as organization, t.connection_id, t.id, t.principal_id,
           coalesce(u.display_name, g.display_name {name}) as principal_name,
           case when u.id is not null then 'user' when g.id is not null then 'group'
                {principal_type} else coalesce(e.member_type, 'unresolved') end as principal_type,
           u.user_principal_name, t.role_definition_id, d.display_name as role_name,
           d.is_built_in, t.directory_scope_id, t.app_scope_id,
           case when coalesce(u.live_since, g.live_since {since})
                     > coalesce(t.live_since, t.changed_at)
                then coalesce(u.live_since, g.live_since {since}) else t.live_since end as since,
           t.live_since is not null
               or coalesce(coalesce(u.live_since, g.live_since {since}) > t.changed_at, false)
               as since_exact,
           greatest(coalesce(t.live_since, t.changed_at), u.live_since, g.live_since {since})
               as at_least_since,
           d.template_id as role_template_id
      from directory.role_assignments t
      left join directory.role_definitions d
        on d.connection_id = t.connection_id and d.id = t.role_definition_id
      left join directory.users u
        on u.connection_id = t.connection_id and u.id = t.principal_id
      left join directory.groups g
        on g.connection_id = t.connection_id and g.id = t.principal_id
      {join_principal}
      left join lateral (
           select m.member_type from directory.group_members m
            where m.connection_id = t.connection_id and m.member_id = t.principal_id
              and u.id is null and g.id is null {unknown} and m.member_type <> 'other'
            limit 1) e on true
      {live} and coalesce(u.deleted_at, g.deleted_at {deleted}) is null
"""
_JOIN = """left join directory.service_principals p
        on p.connection_id = t.connection_id and p.id = t.{}"""
_AFTER = {
    "live": _LIVE,
    "name": ", p.display_name",
    "since": ", p.live_since",
    "deleted": ", p.deleted_at",
    "unknown": "and p.id is null",
    "member_type": "when p.id is not null then 'service_principal'",
    "principal_type": "when p.id is not null then 'service_principal'",
    "join_member": _JOIN.format("member_id"),
    "join_principal": _JOIN.format("principal_id"),
}
_BEFORE = {**dict.fromkeys(_AFTER, ""), "live": _LIVE}

_EMPTY = "; null where it is empty or Graph did not send it"
_UNKNOWN = "; null where Graph did not send it, so that it is not known"
_NAMES = "the name of a user, group or service principal; null of others, which are not mirrored"
_COMMENTS = {
    "users": {
        "creation_type": "Invitation, LocalAccount and such" + _EMPTY,
        "external_user_state_change_date_time": "when the state of a guest''s invitation last"
        " changed" + _EMPTY,
        "is_resource_account": "whether it stands for a room or a device; false where Graph sent"
        " nothing",
        "password_never_expires": "whether its password is exempt from expiring",
    },
    "groups": {
        "license_count": "how many licences its members inherit; 0 where Graph sent none",
        "is_management_restricted": "whether only administrators of a restricted unit may change"
        " it; false where Graph sent nothing",
    },
    "group_members": {"member_name": _NAMES},
    "role_assignments": {
        "principal_name": _NAMES,
        "principal_type": "user, group, service_principal, or as what the principal is a member of"
        " a group: device, org_contact; unresolved where that is not known",
    },
    "service_principals": {
        "organization": "the name of the customer''s organization; null until it was first read",
        "connection_id": "our number of the connection, which is never used again",
        "id": "the service principal''s id in Entra",
        "app_id": "the id of its application, the same in every tenant" + _EMPTY,
        "display_name": "the name for people" + _EMPTY,
        "service_principal_type": "Application, ManagedIdentity, Legacy or SocialIdp" + _EMPTY,
        "account_enabled": "whether it can sign in" + _UNKNOWN,
        "app_owner_organization_id": "the tenant that registered the application" + _EMPTY,
        "is_microsoft": "whether Microsoft registered the application",
        "is_foreign": "whether another organization than the customer and Microsoft registered it;"
        " false where that is not known, as of managed identities",
        "app_role_assignment_required": "whether only those with an app role may use it; false"
        " where Graph sent nothing",
        "sign_in_audience": "whose accounts may sign in, such as AzureADMyOrg" + _EMPTY,
        "disabled_by_microsoft_status": "why Microsoft has disabled it" + _EMPTY,
        "verified_publisher_name": "the publisher that Microsoft has verified; null where there is"
        " none",
        "certificate_count": "how many certificates it has; 0 where Graph sent none",
        "secret_count": "how many client secrets it has; 0 where Graph sent none",
        "first_seen_at": "when the row was first stored; it may have been deleted and restored"
        " since",
        "changed_at": "when the row last changed here",
    },
}
_COMMENTS_BEFORE = {
    "group_members": {
        "member_name": "the name of a user or group; null of others, which are not mirrored",
    },
    "role_assignments": {
        "principal_name": "the name of a user or group; null of others, which are not mirrored",
        "principal_type": "user, group, or as what the principal is a member of a group: device,"
        " service_principal, org_contact; unresolved where that is not known",
    },
}

# A view cannot lose a column without being dropped; who could read it can read it afterwards.
_NARROWER = """
    do $do$
    declare readers text[]; reader text; notes jsonb; about text; name text;
    begin
      select coalesce(array_agg(case when a.grantee = 0 then 'public'
                                     else a.grantee::regrole::text end), '{{}}') into readers
        from pg_class c cross join aclexplode(c.relacl) a
       where c.oid = 'analytics.{name}'::regclass and a.privilege_type = 'SELECT'
         and a.grantee <> c.relowner;
      select jsonb_object_agg(a.attname, col_description(a.attrelid, a.attnum)),
             obj_description('analytics.{name}'::regclass, 'pg_class') into notes, about
        from pg_attribute a where a.attrelid = 'analytics.{name}'::regclass and a.attnum > 0;
      drop view analytics.{name};
      create view analytics.{name} as {query};
      foreach reader in array readers loop
        execute 'grant select on analytics.{name} to ' || reader;
      end loop;
      execute format('comment on view analytics.{name} is %L', about);
      for name in select attname from pg_attribute
                   where attrelid = 'analytics.{name}'::regclass and attnum > 0 loop
        execute format('comment on column analytics.{name}.%I is %L', name, notes ->> name);
      end loop;
    end $do$
"""


def upgrade() -> None:
    wider = {
        "users": _USERS.format(live=_LIVE, further=_FURTHER_OF_USERS),
        "groups": _GROUPS.format(live=_LIVE, further=_FURTHER_OF_GROUPS),
        "group_members": _MEMBERS.format(**_AFTER),
        "role_assignments": _ASSIGNMENTS.format(**_AFTER),
        "service_principals": _PRINCIPALS.format(live=_LIVE),
    }
    for name, query in wider.items():
        op.execute(f"create or replace view analytics.{name} as {query}")
    op.execute(
        "comment on view analytics.service_principals is"
        " 'Service principals that are not deleted: applications and managed identities'"
    )
    _comment(_COMMENTS)


def downgrade() -> None:
    op.execute("drop view if exists analytics.service_principals")
    for name in ("group_members", "role_assignments"):
        query = {"group_members": _MEMBERS, "role_assignments": _ASSIGNMENTS}[name]
        op.execute(f"create or replace view analytics.{name} as {query.format(**_BEFORE)}")
    for name, query in {"users": _USERS, "groups": _GROUPS}.items():
        narrow = query.format(live=_LIVE, further="")
        op.execute(_NARROWER.format(name=name, query=narrow))
    _comment(_COMMENTS_BEFORE)


def _comment(comments: dict[str, dict[str, str]]) -> None:
    for name, columns in comments.items():
        for column, comment in columns.items():
            op.execute(f"comment on column analytics.{name}.{column} is '{comment}'")
