"""What directory roles allow, action by action."""

from typing import Final

from migrations.views.view import CUSTOMER, AnalyticsView, Column, from_table
from models.resources.role_definitions import ROLE_DEFINITIONS as _ROLE_DEFINITIONS

_ACTIONS: Final = """cross join lateral (
       select a.value #>> '{}' as action,
              case when count(o.value ->> 'condition') = count(*)
                   then string_agg(distinct o.value ->> 'condition', ' or '
                                   order by o.value ->> 'condition') end as condition
         from jsonb_array_elements(t.role_permissions) o
        cross join lateral jsonb_path_query(o.value, '$.allowedResourceActions[*]') a (value)
        where jsonb_typeof(a.value) = 'string'
        group by 1) p"""
"""A role may allow an action several times: then without a condition if once without."""

ROLE_PERMISSIONS: Final = AnalyticsView(
    "role_permissions",
    "Actions that directory roles allow, a row for each role and action",
    (
        *CUSTOMER,
        Column(
            "role_definition_id",
            "t.id",
            "the id of the role definition",
            references="role_definitions",
        ),
        Column(
            "role_name",
            "t.display_name",
            "the name of the role; null where it is empty or Graph did not send it",
        ),
        Column(
            "role_template_id",
            "t.template_id",
            "of a built-in role the same id in every tenant; null where it has none",
        ),
        Column(
            "is_built_in",
            "coalesce(t.is_built_in, false)",
            "whether the role is one of Microsoft's own; false where Graph sent nothing",
        ),
        Column(
            "is_enabled",
            "coalesce(t.is_enabled, true)",
            "whether the role can be assigned; true where Graph sent nothing",
        ),
        Column(
            "action",
            "p.action",
            "what may be done to what, such as microsoft.directory/users/password/update",
        ),
        Column(
            "condition",
            "p.condition",
            "only where this holds, such as $ResourceIsSelf, with or between several; null where it"
            " is always allowed",
        ),
        Column(
            "is_privileged_action",
            """exists (select from analytics.privileged_actions l
                where l.action = p.action and l.is_counted)""",
            "whether analytics.privileged_actions has it, which makes a role of the customer's own"
            " privileged; built-in roles count by analytics.privileged_roles instead",
        ),
    ),
    from_table(_ROLE_DEFINITIONS, (_ACTIONS,)),
    key=("connection_id", "role_definition_id", "action"),
)
