"""Subscribed SKUs, under the ids and names that Microsoft gives them in every tenant."""

from random import Random

from sandbox.tenant.directory.ids import guid_from_parts
from sandbox.tenant.directory.templates.template import Props

SKU_IDS = {
    "SPE_E3": "05e9a617-0261-4cee-bb44-138d3ef5d965",
    "SPE_E5": "06ebc4ee-1bb5-47dd-8120-11324bc54e06",
    "ENTERPRISEPACK": "6fd2c87f-b296-42f0-b197-1e91e994b900",
    "AAD_PREMIUM_P2": "84a661c4-e949-4bd2-a560-ed7766fcaf2b",
    "EMSPREMIUM": "b05e124f-c7cc-45a0-a6aa-8cf78c946968",
    "STANDARDPACK": "18181a46-0d4e-45cd-891e-60aabd171b4e",
    "O365_BUSINESS_PREMIUM": "f245ecc8-75af-4f8e-b61f-27d8114de5f3",
    "PROJECTPROFESSIONAL": "53818b1b-4a27-454b-8896-0dba576410e6",
    "FLOW_FREE": "f30db892-07e9-47e9-837c-80727f46fd3d",
    "POWER_BI_STANDARD": "a403ebcc-fae0-4ca2-8c8c-7a907fd6c235",
}
"""Ids of products, by part number."""


def make_sku(
    tenant_id: str, name: str, part_number: str, sku_id: str, *, enabled: int, consumed: int
) -> Props:
    rng = Random(f"{tenant_id}/{sku_id}")
    return {
        "id": f"{tenant_id}_{sku_id}",
        "accountId": tenant_id,
        "accountName": name,
        "skuId": sku_id,
        "skuPartNumber": part_number,
        "appliesTo": "User",
        "capabilityStatus": "Enabled",
        "consumedUnits": consumed,
        "prepaidUnits": {"enabled": enabled, "suspended": 0, "warning": 0, "lockedOut": 0},
        "servicePlans": [
            {
                "servicePlanId": guid_from_parts("plan", part_number, number),
                "servicePlanName": f"{part_number}_PLAN_{number}",
                "provisioningStatus": "Success",
                "appliesTo": "User",
            }
            for number in range(rng.randrange(1, 5))
        ],
        "subscriptionIds": [guid_from_parts(tenant_id, "subscription", sku_id)],
    }


def make_numbered_sku(tenant_id: str, name: str, number: int, held: tuple[str, ...]) -> Props:
    """Return the SKU with this number. The first are those that generated users hold."""
    products = [*held, *SKU_IDS.values()]
    part_numbers = [f"SANDBOX_{n + 1}" for n in range(len(held))] + list(SKU_IDS)
    if number < len(products):
        sku_id, part_number = products[number], part_numbers[number]
    else:
        sku_id, part_number = guid_from_parts("sku", number), f"PRODUCT_{number}"
    rng = Random(f"{tenant_id}/sku/{number}")
    enabled = rng.choice((5, 25, 300))
    consumed = rng.randrange(enabled + 1)
    made = make_sku(tenant_id, name, part_number, sku_id, enabled=enabled, consumed=consumed)
    if rng.random() < 0.2:
        made["capabilityStatus"] = "Warning"
        made["prepaidUnits"] |= {"enabled": 0, "warning": enabled}
    return made
