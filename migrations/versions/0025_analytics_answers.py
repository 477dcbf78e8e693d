"""The views for people: true or false where absence means false, holders that exist, role templates.

Every column has a comment, which says what null means where it can be null.
"""

from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

_USERS = """
    select c.display_name as organization, t.connection_id, t.id, t.user_principal_name,
           t.display_name, t.mail, t.job_title, t.department, t.company_name,
           t.office_location, t.employee_id, t.employee_type, t.user_type,
           t.account_enabled, t.city, t.country, t.usage_location,
           t.created_date_time, t.last_password_change_date_time,
           {synced} as on_premises_sync_enabled, t.external_user_state,
           coalesce(jsonb_array_length(t.assigned_licenses), 0) as license_count,
           t.first_seen_at, t.changed_at
      from directory.users t {live}
"""
_GROUPS = """
    select c.display_name as organization, t.connection_id, t.id, t.display_name,
           t.description, t.mail, t.visibility, t.security_enabled, t.mail_enabled,
           {unified} as is_microsoft_365, {dynamic} as is_dynamic,
           coalesce(t.is_assignable_to_role, false) as is_assignable_to_role,
           t.membership_rule, t.created_date_time, t.expiration_date_time,
           t.first_seen_at, t.changed_at
      from directory.groups t {live}
"""
_MEMBERS = """
    select c.display_name as organization, t.connection_id, t.group_id,
           g.display_name as group_name, t.member_id, {member_type} as member_type,
           coalesce(u.display_name, m.display_name) as member_name, u.user_principal_name,
           t.live_since as since, t.live_since is not null as since_exact,
           coalesce(t.live_since, t.changed_at) as at_least_since
      from directory.group_members t
      left join directory.groups g
        on g.connection_id = t.connection_id and g.id = t.group_id
      left join directory.users u
        on u.connection_id = t.connection_id and u.id = t.member_id
      left join directory.groups m
        on m.connection_id = t.connection_id and m.id = t.member_id {live}
"""
_SITES = """
    select c.display_name as organization, t.connection_id, t.id, t.display_name, t.name,
           t.web_url, t.hostname, {personal} as is_personal_site, {root} as is_root,
           t.data_location_code, t.created_date_time, t.last_modified_date_time,
           t.first_seen_at, t.changed_at
      from directory.sites t {live}
"""
_DEFINITIONS = """
    select c.display_name as organization, t.connection_id, t.id, t.display_name, t.description,
           t.is_built_in, t.is_enabled, t.template_id, t.version, t.first_seen_at, t.changed_at
      from directory.role_definitions t {live}
"""
_ASSIGNMENTS = """
    select c.display_name as organization, t.connection_id, t.id, t.principal_id,
           coalesce(u.display_name, g.display_name) as principal_name,
           {principal_type} as principal_type,
           u.user_principal_name, t.role_definition_id, d.display_name as role_name,
           d.is_built_in, t.directory_scope_id, t.app_scope_id, {since} {template}
      from directory.role_assignments t
      left join directory.role_definitions d
        on d.connection_id = t.connection_id and d.id = t.role_definition_id
      left join directory.users u
        on u.connection_id = t.connection_id and u.id = t.principal_id
      left join directory.groups g
        on g.connection_id = t.connection_id and g.id = t.principal_id
      {elsewhere} {live} {exists}
"""
_VIEWS = {
    "users": _USERS,
    "groups": _GROUPS,
    "group_members": _MEMBERS,
    "sites": _SITES,
    "role_definitions": _DEFINITIONS,
    "role_assignments": _ASSIGNMENTS,
}
_LIVE = """
    join sync.connections c on c.id = t.connection_id and c.status <> 'retired'
   where t.deleted_at is null
"""
_BOOLEANS = {
    "synced": "t.on_premises_sync_enabled",
    "unified": "'Unified' = any(t.group_types)",
    "dynamic": "'DynamicMembership' = any(t.group_types)",
    "personal": "t.is_personal_site",
    "root": "t.is_root",
}

# A principal that was restored holds its roles since then. Its row says it, unless the beginning of
# the assignment is later.
_AFTER = {
    **{name: f"coalesce({condition}, false)" for name, condition in _BOOLEANS.items()},
    "live": _LIVE,
    "member_type": """case when t.member_type <> 'other' then t.member_type
                when u.id is not null then 'user' when m.id is not null then 'group'
                else 'unresolved' end""",
    "principal_type": """case when u.id is not null then 'user' when g.id is not null then 'group'
                else coalesce(e.member_type, 'unresolved') end""",
    "elsewhere": """left join lateral (
           select m.member_type from directory.group_members m
            where m.connection_id = t.connection_id and m.member_id = t.principal_id
              and u.id is null and g.id is null and m.member_type <> 'other'
            limit 1) e on true""",
    "exists": "and coalesce(u.deleted_at, g.deleted_at) is null",
    "template": ", d.template_id as role_template_id",
    "since": """
           case when coalesce(u.live_since, g.live_since) > coalesce(t.live_since, t.changed_at)
                then coalesce(u.live_since, g.live_since) else t.live_since end as since,
           t.live_since is not null
               or coalesce(coalesce(u.live_since, g.live_since) > t.changed_at, false)
               as since_exact,
           greatest(coalesce(t.live_since, t.changed_at), u.live_since, g.live_since)
               as at_least_since""",
}
_BEFORE = {
    **_BOOLEANS,
    "live": _LIVE,
    "member_type": "t.member_type",
    "principal_type": """case when u.id is not null then 'user' when g.id is not null then 'group'
                else 'other' end""",
    "elsewhere": "",
    "exists": "",
    "template": "",
    "since": """t.live_since as since, t.live_since is not null as since_exact,
           coalesce(t.live_since, t.changed_at) as at_least_since""",
}
_EMPTY = "; null where it is empty or Graph did not send it"
_UNKNOWN = "; null where Graph did not send it, so that it is not known"
_CREATED = "when it was created, as Graph gives it" + _EMPTY
_SINCE = {
    "since": "when it began, as closely as the resource is read; null where that was not seen,"
    " as in a first load",
    "since_exact": "whether since is known",
    "at_least_since": "since when it is known to hold: since, or the last change of the row",
}
_OWNER = {
    "organization": "the name of the customer''s organization; null until it was first read",
    "connection_id": "our number of the connection, which is never used again",
}
_STORED = {
    "first_seen_at": "when the row was first stored; it may have been deleted and restored since",
    "changed_at": "when the row last changed here",
}
_COMMENTS = {
    "connections": {
        **_OWNER,
        "tenant_id": "the id of the Microsoft tenant; null until it was first read",
        "status": "active, paused, broken or duplicate",
        "fresh_at": "the rows of all resources are at least as new as this; null where one was"
        " never read",
    },
    "freshness": {
        **_OWNER,
        "resource": "the table of schema directory",
        "phase": "what is being done with the resource: ready, listing, sweeping, delta, refused"
        " or held",
    },
    "users": {
        **_OWNER,
        **_STORED,
        "id": "the user''s id in Entra",
        "user_principal_name": "the sign-in name" + _EMPTY,
        "display_name": "the name for people" + _EMPTY,
        "mail": "the main address" + _EMPTY,
        "job_title": "the job title" + _EMPTY,
        "department": "the department" + _EMPTY,
        "company_name": "the company" + _EMPTY,
        "office_location": "the office" + _EMPTY,
        "employee_id": "the number in the organization''s own books" + _EMPTY,
        "employee_type": "the kind of employment" + _EMPTY,
        "user_type": "Member or Guest" + _UNKNOWN,
        "account_enabled": "whether the account can sign in" + _UNKNOWN,
        "city": "the city" + _EMPTY,
        "country": "the country" + _EMPTY,
        "usage_location": "the country whose rules for licences apply, in two letters" + _EMPTY,
        "created_date_time": _CREATED,
        "last_password_change_date_time": "when the password was last set" + _EMPTY,
        "on_premises_sync_enabled": "whether it is kept in step with a directory on premises;"
        " false where it never was, of which Graph sends nothing",
        "external_user_state": "of a guest: PendingAcceptance or Accepted" + _EMPTY,
        "license_count": "how many licences are assigned; 0 where Graph sent none",
    },
    "groups": {
        **_OWNER,
        **_STORED,
        "id": "the group''s id in Entra",
        "display_name": "the name for people" + _EMPTY,
        "description": "the description" + _EMPTY,
        "mail": "the address" + _EMPTY,
        "visibility": "Public, Private or HiddenMembership" + _EMPTY,
        "security_enabled": "whether it is a security group" + _UNKNOWN,
        "mail_enabled": "whether it has an address" + _UNKNOWN,
        "is_microsoft_365": "whether it is a Microsoft 365 group",
        "is_dynamic": "whether a rule decides who is a member",
        "is_assignable_to_role": "whether it can hold directory roles; false where Graph sent"
        " nothing, which is its default",
        "membership_rule": "the rule of a dynamic group" + _EMPTY,
        "created_date_time": _CREATED,
        "expiration_date_time": "when it expires" + _EMPTY,
    },
    "group_members": {
        **_OWNER,
        **_SINCE,
        "group_id": "the group''s id",
        "group_name": "the group''s name; null where it is empty or the group is not mirrored",
        "member_id": "the member''s id",
        "member_type": "user, group, device, service_principal or org_contact; unresolved where"
        " Graph did not name a type that is known",
        "member_name": "the name of a user or group; null of others, which are not mirrored",
        "user_principal_name": "the sign-in name of a user; null of others",
    },
    "sites": {
        **_OWNER,
        **_STORED,
        "id": "the GUID of the web",
        "display_name": "the title" + _EMPTY,
        "name": "the last part of the address" + _EMPTY,
        "web_url": "the address" + _EMPTY,
        "hostname": "the host of the site collection" + _EMPTY,
        "is_personal_site": "whether it is somebody''s OneDrive; false where Graph sent nothing",
        "is_root": "whether it is the top site of its collection",
        "data_location_code": "where the data is, in a tenant of several regions" + _EMPTY,
        "created_date_time": _CREATED,
        "last_modified_date_time": "when it was last changed, as Graph gives it" + _EMPTY,
    },
    "role_definitions": {
        **_OWNER,
        **_STORED,
        "id": "the id of the role definition",
        "display_name": "the name, which Microsoft or the customer may change" + _EMPTY,
        "description": "the description" + _EMPTY,
        "is_built_in": "whether it is one of Microsoft''s own, not the customer''s" + _UNKNOWN,
        "is_enabled": "whether it can be assigned" + _UNKNOWN,
        "template_id": "of a built-in role the same id in every tenant, whatever its name" + _EMPTY,
        "version": "the version of the definition" + _EMPTY,
    },
    "role_assignments": {
        **_OWNER,
        **_SINCE,
        "id": "the id of the assignment",
        "principal_id": "who holds the role" + _UNKNOWN,
        "principal_name": "the name of a user or group; null of others, which are not mirrored",
        "principal_type": "user, group, or as what the principal is a member of a group: device,"
        " service_principal, org_contact; unresolved where that is not known",
        "user_principal_name": "the sign-in name of a user; null of others",
        "role_definition_id": "the id of the role definition" + _UNKNOWN,
        "role_name": "the name of the role; null where its definition is not mirrored",
        "role_template_id": "of a built-in role the same id in every tenant; null where its"
        " definition is not mirrored or has none",
        "is_built_in": "whether the role is one of Microsoft''s own; null where its definition is"
        " not mirrored or does not tell",
        "directory_scope_id": "what it is held over: / is the whole tenant; null where"
        " app_scope_id tells it",
        "app_scope_id": "what it is held over within an application; null where"
        " directory_scope_id tells it",
    },
}
_ABOUT = {
    "connections": "Customers, without those that are retired",
    "freshness": "How new the rows of each customer and resource are",
    "users": "Users that are not deleted",
    "groups": "Groups that are not deleted",
    "group_members": "Direct memberships that have not ended",
    "sites": "SharePoint sites and personal sites that are not deleted",
    "role_definitions": "Directory roles, built-in and custom",
    "role_assignments": "Directory roles held, without those of deleted users and groups",
}

# A view cannot lose a column without being dropped; who could read it can read it afterwards.
_NARROWER = """
    do $do$
    declare readers text[]; reader text;
    begin
      select coalesce(array_agg(case when a.grantee = 0 then 'public'
                                     else a.grantee::regrole::text end), '{{}}') into readers
        from pg_class c cross join aclexplode(c.relacl) a
       where c.oid = 'analytics.role_assignments'::regclass and a.privilege_type = 'SELECT'
         and a.grantee <> c.relowner;
      drop view analytics.role_assignments;
      create view analytics.role_assignments as {query};
      foreach reader in array readers loop
        execute 'grant select on analytics.role_assignments to ' || reader;
      end loop;
    end $do$
"""


def upgrade() -> None:
    for name, query in _VIEWS.items():
        op.execute(f"create or replace view analytics.{name} as {query.format(**_AFTER)}")
    for name, comments in _COMMENTS.items():
        op.execute(f"comment on view analytics.{name} is '{_ABOUT[name]}'")
        for column, comment in comments.items():
            op.execute(f"comment on column analytics.{name}.{column} is '{comment}'")


def downgrade() -> None:
    op.execute("drop view if exists analytics.role_definitions")
    op.execute(_NARROWER.format(query=_ASSIGNMENTS.format(**_BEFORE)))
    for name in ("users", "groups", "group_members", "sites"):
        op.execute(f"create or replace view analytics.{name} as {_VIEWS[name].format(**_BEFORE)}")
