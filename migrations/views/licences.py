"""Products that customers subscribe to."""

from typing import Final

from migrations.views.view import (
    CUSTOMER,
    SEEN,
    AnalyticsView,
    Column,
    from_table,
    show_columns,
)
from models.resources.subscribed_skus import SUBSCRIBED_SKUS as _SUBSCRIBED_SKUS

_ASSIGNED: Final = """left join (
       select u.connection_id, lower(l.value ->> 'skuId') as sku_id, count(*) as users,
              count(*) filter (where not u.account_enabled) as disabled_users
         from directory.users u cross join lateral jsonb_array_elements(u.assigned_licenses) l
        where u.deleted_at is null
        group by 1, 2) a on a.connection_id = t.connection_id and a.sku_id = t.sku_id::text"""

LICENSES: Final = AnalyticsView(
    "licenses",
    "Products that customers subscribe to, with the units they have, use and assign",
    CUSTOMER
    + show_columns(
        _SUBSCRIBED_SKUS,
        (
            *("sku_id", "sku_part_number"),
            Column(
                "product_name",
                "coalesce(p.name, t.sku_part_number)",
                "the name that people know it by, of analytics.product_names; the short name where"
                " that does not have it",
            ),
            *("applies_to", "capability_status", "prepaid_enabled", "prepaid_warning"),
            *("prepaid_suspended", "prepaid_locked_out"),
            Column(
                "consumed_units",
                "t.consumed_units",
                "units in use, as of the last read, which is daily; null where Graph did not send"
                " it, so that it is not known",
            ),
            Column(
                "assigned_users",
                "coalesce(a.users, 0)",
                "users that are not deleted to whom the product is assigned, directly or by a"
                " group",
            ),
            Column(
                "assigned_disabled_users",
                "coalesce(a.disabled_users, 0)",
                "those among them whose account is disabled",
            ),
            *SEEN,
        ),
        apart=("service_plans",),
    ),
    from_table(
        _SUBSCRIBED_SKUS,
        ("left join analytics.product_names p on p.sku_id = t.sku_id", _ASSIGNED),
    ),
    key=("connection_id", "id"),
)
