"""Products that a tenant subscribes to, with the units that it has and uses.

Graph lists all of them on one page, which takes ``$select`` and nothing else. It has no delta.

https://learn.microsoft.com/graph/api/resources/subscribedsku
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from models.property import documents, facet, guid, integer, text, texts
from models.record import Integer
from models.resource import Resource
from models.source import Source


class PrepaidUnits(msgspec.Struct, frozen=True, kw_only=True, rename="camel", gc=False):
    """The units of a subscription, by its state."""

    enabled: Integer | None = None
    suspended: Integer | None = None
    warning: Integer | None = None
    locked_out: Integer | None = None


def derive_columns(sku: Any) -> Mapping[str, object]:
    """Return the columns that come from the nested units."""
    units = sku.prepaid_units or PrepaidUnits()
    return {
        "prepaid_enabled": units.enabled,
        "prepaid_suspended": units.suspended,
        "prepaid_warning": units.warning,
        "prepaid_locked_out": units.locked_out,
    }


_UNITS: Final = ("prepaid_units",)

SUBSCRIBED_SKUS: Final = Resource(
    name="subscribed_skus",
    meaning="Products that a tenant subscribes to, with the units that it has and uses",
    graph_type="subscribedSku",
    permission="LicenseAssignment.Read.All",
    by_id="/subscribedSkus/{id}",
    source=Source(path="/subscribedSkus", intervals=("daily_seconds",)),
    derive=derive_columns,
    event_noun="subscribed_sku",
    labels=("sku_part_number",),
    properties=(
        text("id", "id of the tenant and id of the product, with _ between them", key=True),
        guid("sku_id", "id of the product, the same in every tenant"),
        text("sku_part_number", "Microsoft's short name of the product"),
        text("applies_to", "User or Company"),
        text(
            "capability_status",
            "Enabled, Warning (expired, in use), Suspended, Deleted or LockedOut",
        ),
        integer("consumed_units", "units that are assigned", sampled=True),
        facet("prepaid_units", PrepaidUnits, "units by the state of the subscription"),
        integer("prepaid_enabled", "units to use", derived=True, derived_from=_UNITS),
        integer("prepaid_suspended", "suspended units", derived=True, derived_from=_UNITS),
        integer(
            "prepaid_warning",
            "units of an expired subscription that can still be used",
            derived=True,
            derived_from=_UNITS,
        ),
        integer(
            "prepaid_locked_out",
            "units of a subscription that was cancelled",
            derived=True,
            derived_from=_UNITS,
        ),
        documents("service_plans", "services in the product", unordered=True),
        texts("subscription_ids", "ids of the subscriptions", unordered=True),
    ),
)
