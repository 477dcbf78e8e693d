"""Views for people: live rows of connections that are not retired, names resolved."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_LIVE = """
    join sync.connections c on c.id = t.connection_id and c.status <> 'retired'
   where t.deleted_at is null
"""
_VIEWS = {
    "connections": """
        select c.id as connection_id, c.tenant_id, c.display_name as organization, c.status,
               min(s.fresh_at) as fresh_at
          from sync.connections c left join sync.streams s on s.connection_id = c.id
         where c.status <> 'retired' group by c.id
    """,
    "users": f"""
        select c.display_name as organization, t.connection_id, t.id, t.user_principal_name,
               t.display_name, t.mail, t.job_title, t.department, t.company_name,
               t.office_location, t.employee_id, t.employee_type, t.user_type,
               t.account_enabled, t.city, t.country, t.usage_location,
               t.created_date_time, t.last_password_change_date_time,
               t.on_premises_sync_enabled, t.external_user_state,
               coalesce(jsonb_array_length(t.assigned_licenses), 0) as license_count,
               t.first_seen_at, t.changed_at
          from directory.users t {_LIVE}
    """,
    "groups": f"""
        select c.display_name as organization, t.connection_id, t.id, t.display_name,
               t.description, t.mail, t.visibility, t.security_enabled, t.mail_enabled,
               'Unified' = any(t.group_types) as is_microsoft_365,
               'DynamicMembership' = any(t.group_types) as is_dynamic,
               coalesce(t.is_assignable_to_role, false) as is_assignable_to_role,
               t.membership_rule, t.created_date_time, t.expiration_date_time,
               t.first_seen_at, t.changed_at
          from directory.groups t {_LIVE}
    """,
    "group_members": f"""
        select c.display_name as organization, t.connection_id, t.group_id,
               g.display_name as group_name, t.member_id, t.member_type,
               coalesce(u.display_name, m.display_name) as member_name,
               u.user_principal_name, t.first_seen_at as since
          from directory.group_members t
          left join directory.groups g
            on g.connection_id = t.connection_id and g.id = t.group_id
          left join directory.users u
            on u.connection_id = t.connection_id and u.id = t.member_id
          left join directory.groups m
            on m.connection_id = t.connection_id and m.id = t.member_id
          {_LIVE}
    """,
    "sites": f"""
        select c.display_name as organization, t.connection_id, t.id, t.display_name, t.name,
               t.web_url, t.hostname, t.is_personal_site, t.is_root, t.data_location_code,
               t.created_date_time, t.last_modified_date_time, t.first_seen_at, t.changed_at
          from directory.sites t {_LIVE}
    """,
    "role_assignments": f"""
        select c.display_name as organization, t.connection_id, t.id, t.principal_id,
               coalesce(u.display_name, g.display_name) as principal_name,
               case when u.id is not null then 'user' when g.id is not null then 'group'
                    else 'other' end as principal_type,
               u.user_principal_name, t.role_definition_id, d.display_name as role_name,
               d.is_built_in, t.directory_scope_id, t.app_scope_id, t.first_seen_at as since
          from directory.role_assignments t
          left join directory.role_definitions d
            on d.connection_id = t.connection_id and d.id = t.role_definition_id
          left join directory.users u
            on u.connection_id = t.connection_id and u.id = t.principal_id
          left join directory.groups g
            on g.connection_id = t.connection_id and g.id = t.principal_id
          {_LIVE}
    """,
}


def upgrade() -> None:
    for name, query in _VIEWS.items():
        op.execute(f"create or replace view analytics.{name} as {query}")


def downgrade() -> None:
    for name in reversed(_VIEWS):
        op.execute(f"drop view if exists analytics.{name}")
