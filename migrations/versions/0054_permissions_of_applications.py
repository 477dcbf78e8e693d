"""Views for people: what applications may do, by their own permissions and by consent."""

from alembic import op

revision = "0054"
down_revision = "0053"
branch_labels = None
depends_on = None

_LIVE = """
      join sync.connections c on c.id = t.connection_id and c.status <> 'retired'
     where t.deleted_at is null
"""
_ROLES = f"""
    select c.display_name as organization, t.connection_id, t.id, t.principal_id,
           coalesce(p.display_name, u.display_name, g.display_name) as principal_name,
           case when p.id is not null then 'service_principal' when u.id is not null then 'user'
                when g.id is not null then 'group'
                else coalesce(case t.principal_type when 'ServicePrincipal' then 'service_principal'
                                   when 'User' then 'user' when 'Group' then 'group' end,
                              'unresolved') end as principal_type,
           t.resource_id, r.display_name as resource_name, t.app_role_id,
           (select role.one ->> 'value' from jsonb_array_elements(r.app_roles) as role(one)
             where role.one ->> 'id' = t.app_role_id::text limit 1) as permission,
           t.created_date_time,
           t.live_since as since, t.live_since is not null as since_exact,
           coalesce(t.live_since, t.changed_at) as at_least_since
      from directory.app_role_assignments t
      left join directory.service_principals r
        on r.connection_id = t.connection_id and r.id = t.resource_id
      left join directory.service_principals p
        on p.connection_id = t.connection_id and p.id = t.principal_id
      left join directory.users u
        on u.connection_id = t.connection_id and u.id = t.principal_id
      left join directory.groups g
        on g.connection_id = t.connection_id and g.id = t.principal_id {_LIVE}
"""
_GRANTS = f"""
    select c.display_name as organization, t.connection_id, t.id, s.permission, t.client_id,
           a.display_name as client_name, t.resource_id, r.display_name as resource_name,
           coalesce(t.consent_type = 'AllPrincipals', false) as is_for_all_users,
           t.principal_id, u.display_name as principal_name, u.user_principal_name,
           t.live_since as since, t.live_since is not null as since_exact,
           coalesce(t.live_since, t.changed_at) as at_least_since
      from directory.oauth2_permission_grants t
     cross join unnest(t.scopes) as s(permission)
      left join directory.service_principals a
        on a.connection_id = t.connection_id and a.id = t.client_id
      left join directory.service_principals r
        on r.connection_id = t.connection_id and r.id = t.resource_id
      left join directory.users u
        on u.connection_id = t.connection_id and u.id = t.principal_id {_LIVE}
"""
_VIEWS = {"app_role_assignments": _ROLES, "permission_grants": _GRANTS}
_ABOUT = {
    "app_role_assignments": "Application permissions of Microsoft Graph that are held",
    "permission_grants": "Delegated permissions that applications were granted, a row for each",
}
_UNKNOWN = "; null where Graph did not send it, so that it is not known"
_NOT_MIRRORED = "; null where it has none or is not mirrored"
_COMMON = {
    "organization": "the name of the customer''s organization; null until it was first read",
    "connection_id": "our number of the connection, which is never used again",
    "since": "when it began, as closely as the resource is read; null where that was not seen,"
    " as in a first load",
    "since_exact": "whether since is known",
    "at_least_since": "since when it is known to hold: since, or the last change of the row",
    "resource_id": "the service principal whose permission it is" + _UNKNOWN,
    "resource_name": "the name of the application whose permission it is" + _NOT_MIRRORED,
}
_COMMENTS = {
    "app_role_assignments": {
        **_COMMON,
        "id": "the id of the assignment",
        "principal_id": "who holds the permission" + _UNKNOWN,
        "principal_name": "the name of the service principal, user or group" + _NOT_MIRRORED,
        "principal_type": "service_principal, user or group; unresolved where it is not known",
        "app_role_id": "the id of the permission" + _UNKNOWN,
        "permission": "the name of the permission, such as Mail.Read; null where it has none or"
        " the application whose it is is not mirrored",
        "created_date_time": "when it was assigned, as Graph gives it; null where Graph did not"
        " send it",
    },
    "permission_grants": {
        **_COMMON,
        "id": "the id of the grant, which may be of several permissions",
        "permission": "the name of the permission, such as Mail.Read",
        "client_id": "the service principal that may act for users" + _UNKNOWN,
        "client_name": "the name of the application that may act for users" + _NOT_MIRRORED,
        "is_for_all_users": "whether it was granted for all users",
        "principal_id": "who granted it for themselves; null where it holds for all users",
        "principal_name": "the name of that user" + _NOT_MIRRORED,
        "user_principal_name": "the sign-in name of that user" + _NOT_MIRRORED,
    },
}


def upgrade() -> None:
    for name, query in _VIEWS.items():
        op.execute(f"create or replace view analytics.{name} as {query}")
        op.execute(f"comment on view analytics.{name} is '{_ABOUT[name]}'")
        for column, comment in _COMMENTS[name].items():
            op.execute(f"comment on column analytics.{name}.{column} is '{comment}'")


def downgrade() -> None:
    for name in _VIEWS:
        op.execute(f"drop view if exists analytics.{name}")
