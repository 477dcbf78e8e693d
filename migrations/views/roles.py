"""Directory roles and who holds them."""

from typing import Final

from migrations.views.view import (
    CUSTOMER,
    SEEN,
    SIGN_IN_NAME,
    AnalyticsView,
    Column,
    are_live,
    from_table,
    join_named,
    show_columns,
)
from models.resources.role_assignments import ROLE_ASSIGNMENTS as _ROLE_ASSIGNMENTS
from models.resources.role_definitions import ROLE_DEFINITIONS as _ROLE_DEFINITIONS

_PRIVILEGED: Final = """cross join lateral (
       select string_agg(l.source, ', ' order by l.source) as sources
         from (select r.source from analytics.privileged_roles r
                where r.template_id = t.template_id and r.is_counted
                union
               select a.source from analytics.privileged_actions a
                where a.is_counted and t.is_built_in is not true
                  and jsonb_path_exists(t.role_permissions,
                        '$[*].allowedResourceActions[*] ? (@ == $action)',
                        jsonb_build_object('action', a.action))) l) x"""

ROLE_DEFINITIONS: Final = AnalyticsView(
    "role_definitions",
    "Directory roles, built-in and custom",
    CUSTOMER
    + show_columns(
        _ROLE_DEFINITIONS,
        (
            *("id", "display_name", "description", "is_built_in", "is_enabled", "template_id"),
            "version",
            *SEEN,
        ),
        further=(
            Column(
                "is_privileged",
                "x.sources is not null",
                "whether a list of analytics.privileged_roles has it, or, of a role of the"
                " customer's own, whether it allows one of analytics.privileged_actions",
            ),
            Column(
                "counted_by",
                "x.sources",
                "the sources of these lists, with commas between them; null where it does not count"
                " as privileged",
            ),
        ),
        apart=("role_permissions",),
        defaults={"is_enabled": True},
    ),
    from_table(_ROLE_DEFINITIONS, (_PRIVILEGED,)),
    key=("connection_id", "id"),
)

_RESTORED: Final = "coalesce(u.live_since, g.live_since, p.live_since)"
"""Since when a principal is live, which may have been deleted while it held the role."""

ROLE_ASSIGNMENTS: Final = AnalyticsView(
    "role_assignments",
    "Directory roles held, without those of deleted users and groups",
    (
        *CUSTOMER,
        Column("id", "t.id", "the id of the assignment"),
        Column(
            "principal_id",
            "t.principal_id",
            "who holds the role; null where Graph did not send it, so that it is not known",
            personal=True,
        ),
        Column(
            "principal_name",
            "coalesce(u.display_name, g.display_name, p.display_name)",
            "the name of a user, group or service principal; null of others, which are not"
            " mirrored",
            personal=True,
        ),
        Column(
            "principal_type",
            """case when u.id is not null then 'user' when g.id is not null then 'group'
            when p.id is not null then 'service_principal'
            else coalesce(e.member_type, 'unresolved') end""",
            "user, group, service_principal, or as what the principal is a member of a group:"
            " device, org_contact; unresolved where that is not known",
        ),
        SIGN_IN_NAME,
        Column(
            "role_definition_id",
            "t.role_definition_id",
            "the id of the role definition; null where Graph did not send it, so that it is not"
            " known",
            references="role_definitions",
        ),
        Column(
            "role_name",
            "d.display_name",
            "the name of the role; null where its definition is not mirrored",
        ),
        Column(
            "is_built_in",
            "coalesce(d.is_built_in, false)",
            "whether the role is one of Microsoft's own; false where its definition is not mirrored"
            " or does not tell",
        ),
        Column(
            "directory_scope_id",
            "t.directory_scope_id",
            "what it is held over: / is the whole tenant; null where app_scope_id tells it",
        ),
        Column(
            "app_scope_id",
            "t.app_scope_id",
            "what it is held over within an application; null where directory_scope_id tells it",
        ),
        Column(
            "since",
            f"""case when {_RESTORED} > coalesce(t.live_since, t.changed_at)
            then {_RESTORED} else t.live_since end""",
            "when it began, as closely as the resource is read; null where that was not seen, as in"
            " a first load",
        ),
        Column(
            "since_exact",
            f"t.live_since is not null or coalesce({_RESTORED} > t.changed_at, false)",
            "whether since is known",
        ),
        Column(
            "at_least_since",
            "greatest(coalesce(t.live_since, t.changed_at), u.live_since, g.live_since,"
            " p.live_since)",
            "since when it is known to hold: since, or the last change of the row",
        ),
        Column(
            "role_template_id",
            "d.template_id",
            "of a built-in role the same id in every tenant; null where its definition is not"
            " mirrored or has none",
        ),
    ),
    from_table(
        _ROLE_ASSIGNMENTS,
        (
            join_named("role_definitions", "d", "role_definition_id"),
            join_named("users", "u", "principal_id"),
            join_named("groups", "g", "principal_id"),
            join_named("service_principals", "p", "principal_id"),
            """left join lateral (
       select m.member_type from directory.group_members m
        where m.connection_id = t.connection_id and m.member_id = t.principal_id
          and u.id is null and g.id is null and p.id is null and m.member_type <> 'other'
        limit 1) e on true""",
        ),
    )
    + f"   and {are_live('u', 'g', 'p')}",
    key=("connection_id", "id"),
)
