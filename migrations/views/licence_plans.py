"""The services of products, which of them are disabled for users, and what groups assign."""

from typing import Final

from migrations.views.licences import LICENSES, USER_LICENSES, select_licences
from migrations.views.view import (
    CUSTOMER,
    AnalyticsView,
    Column,
    from_table,
    is_as_long_as_guid,
    render_guid,
)
from models.resources.groups import GROUPS as _GROUPS
from models.resources.subscribed_skus import SUBSCRIBED_SKUS as _SUBSCRIBED_SKUS
from models.resources.users import USERS as _USERS

_SHARED: Final = {one.name: one for one in USER_LICENSES.columns}
_PRODUCT: Final = tuple(_SHARED[one] for one in ("sku_id", "sku_part_number", "product_name"))

_BOUGHT: Final = tuple(
    one for one in LICENSES.columns if one.name in {"sku_id", "sku_part_number", "product_name"}
)

_ASSIGNED: Final = f"cross join lateral {select_licences('t')} l"
_PRODUCTS: Final = (
    """left join directory.subscribed_skus k
    on k.connection_id = t.connection_id and k.sku_id = l.sku_id and k.deleted_at is null""",
    "left join analytics.product_names p on p.sku_id = l.sku_id",
)
_PLANS: Final = f"""left join (
       select s.connection_id, s.sku_id,
              {render_guid("o.value ->> 'servicePlanId'")} as plan_id,
              min(o.value ->> 'servicePlanName') as name
         from directory.subscribed_skus s
        cross join lateral jsonb_array_elements(s.service_plans) o
        where s.deleted_at is null
        group by 1, 2, 3) n
    on n.connection_id = t.connection_id and n.sku_id = l.sku_id and n.plan_id = d.plan_id"""

_PLAN_ID: Final = "the id of the service, the same in every tenant and product"
_NOT_SENT: Final = "; null where Graph did not send it"

LICENSE_PLANS: Final = AnalyticsView(
    "license_plans",
    "Services of the products that customers subscribe to, a row for each product and service",
    (
        *CUSTOMER,
        *_BOUGHT,
        Column("service_plan_id", "s.plan_id", _PLAN_ID),
        Column(
            "service_plan_name",
            "s.value ->> 'servicePlanName'",
            f"Microsoft's short name of the service{_NOT_SENT}",
        ),
        Column(
            "applies_to",
            "s.value ->> 'appliesTo'",
            f"User, or Company where it is not assigned to users{_NOT_SENT}",
        ),
        Column(
            "provisioning_status",
            "s.value ->> 'provisioningStatus'",
            "Success, Disabled, PendingInput, PendingActivation or PendingProvisioning" + _NOT_SENT,
        ),
    ),
    from_table(
        _SUBSCRIBED_SKUS,
        (
            f"""cross join lateral (
       select {render_guid("o.value ->> 'servicePlanId'")} as plan_id, o.value
         from jsonb_array_elements(t.service_plans) o offset 0) s""",
            "left join analytics.product_names p on p.sku_id = t.sku_id",
        ),
    )
    + "   and t.sku_id is not null and s.plan_id is not null",
    key=("connection_id", "sku_id", "service_plan_id"),
)

GROUP_LICENSES: Final = AnalyticsView(
    "group_licenses",
    "Products that groups assign to their direct members, a row for each group and product",
    (
        *CUSTOMER,
        Column("group_id", "t.id", "the group's id", references="groups"),
        Column(
            "group_name",
            "t.display_name",
            "the group's name; null where it is empty or Graph did not send it",
            personal=True,
        ),
        *_PRODUCT,
        Column("plan_count", "jsonb_array_length(k.service_plans)", _SHARED["plan_count"].meaning),
        Column(
            "disabled_plan_count",
            "jsonb_array_length(l.disabled)",
            "how many of them the group leaves out",
        ),
    ),
    from_table(_GROUPS, (_ASSIGNED, *_PRODUCTS)),
    key=("connection_id", "group_id", "sku_id"),
)

USER_DISABLED_PLANS: Final = AnalyticsView(
    "user_disabled_plans",
    "Services that a user's licence has and that are disabled for the user, a row for each. All"
    " other services of the product, which license_plans has, are enabled",
    (
        *CUSTOMER,
        *(_SHARED[one] for one in ("user_id", "display_name", "user_principal_name")),
        *(_SHARED[one] for one in ("account_enabled", "is_guest")),
        *_PRODUCT,
        Column(
            "service_plan_id",
            "d.plan_id",
            _PLAN_ID,
        ),
        Column(
            "service_plan_name",
            "n.name",
            "Microsoft's short name of the service; null where products are not mirrored, or the"
            " product does not have it",
        ),
    ),
    from_table(
        _USERS,
        (
            _ASSIGNED,
            f"""cross join lateral (
       select {render_guid("o.value")} as plan_id
         from jsonb_array_elements_text(l.disabled) o
        where {is_as_long_as_guid("o.value")} offset 0) d""",
            *_PRODUCTS,
            _PLANS,
        ),
    )
    + "   and d.plan_id is not null",
    key=("connection_id", "user_id", "sku_id", "service_plan_id"),
)
