"""Answers about licences."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sandbox.tenant import Tenant
from sandbox.tenant.directory.templates.users import SKUS
from tests.support.analysts import Analysts, Row
from tests.support.examples import Check
from tests.support.examples.people import get_last_seen, get_users, list_customers


def get_part_numbers(tenant: Tenant) -> dict[str, str]:
    """The short names of products by id, where Graph shows them."""
    if "subscribed_skus" in tenant.options.refused_resources:
        return {}
    return {one["skuId"]: one["skuPartNumber"] for one in tenant.iterate_live("subscribed_skus")}


def list_held(tenant: Tenant) -> Iterator[tuple[Mapping[str, Any], str, frozenset[str]]]:
    """Each user with each product, and its plans that are disabled."""
    for user in get_users(tenant).values():
        for one in user["assignedLicenses"] or ():
            yield user, one["skuId"], frozenset(one["disabledPlans"])


def find_sources(tenant: Tenant) -> dict[tuple[str, str], str]:
    """By user and product, through what it is assigned, as far as it can be known."""
    through: dict[tuple[str, str], list[frozenset[str]]] = {}
    for group in tenant.iterate_live("groups"):
        for one in group["assignedLicenses"] or ():
            for member in tenant.members_of(group["id"]):
                plans = frozenset(one["disabledPlans"])
                through.setdefault((member.id, one["skuId"]), []).append(plans)
    found = {}
    for user, sku, disabled in list_held(tenant):
        groups = through.get((user["id"], sku), [])
        left_out = frozenset.intersection(*groups) if groups else frozenset()
        has_more = "both" if left_out - disabled else "group"
        found[user["id"], sku] = has_more if groups else "direct"
    return found


def disabled_with_licences(world: Analysts, rows: Sequence[Row]) -> None:
    expected: Counter[tuple[str, str, int]] = Counter()
    for name, tenant in list_customers(world):
        held = Counter(
            user["userPrincipalName"]
            for user, _, _ in list_held(tenant)
            if not user["accountEnabled"]
        )
        expected.update({(name, user, number): 1 for user, number in held.items()})
    found = Counter(
        (row["organization"], row["user_principal_name"], len(row["products"].split(", ")))
        for row in rows
    )
    assert found == expected
    assert ("Contoso", "bert.holm@contoso.example", 1) in found


def licences_of_customers(world: Analysts, rows: Sequence[Row]) -> None:
    units = {one["skuPartNumber"]: one for one in world.contoso.iterate_live("subscribed_skus")}
    assigned = Counter(sku for _, sku, _ in list_held(world.contoso))
    contoso = [row for row in rows if row["organization"] == "Contoso"]
    assert {row["product_name"] for row in contoso} == units.keys()
    for row in contoso:
        one = units[row["product_name"]]
        prepaid = one["prepaidUnits"]
        bought = prepaid["enabled"] + prepaid["warning"]
        assert (row["bought_units"], row["consumed_units"]) == (bought, one["consumedUnits"])
        assert row["free_units"] == bought - one["consumedUnits"]
        assert row["assigned_users"] == assigned[one["skuId"]]
    refused = [row for row in rows if row["organization"] == "Fabrikam"]
    held = Counter(sku for _, sku, _ in list_held(world.fabrikam))
    assert Counter(row["assigned_users"] for row in refused) == Counter(held.values())
    for name in ("bought_units", "consumed_units", "free_units", "product_name"):
        assert {row[name] for row in refused} == {None}


def licences_by_source(world: Analysts, rows: Sequence[Row]) -> None:
    names = get_part_numbers(world.contoso)
    sources = find_sources(world.contoso)
    expected = Counter((names[sku], source) for (_, sku), source in sources.items())
    found = {(row["product_name"], row["licensed_through"]): row["users"] for row in rows}
    assert found == expected
    assert {source for _, source in found} == {"direct", "group", "both"}


def unused_licences(world: Analysts, rows: Sequence[Row]) -> None:
    limit, names = datetime.now(UTC) - timedelta(days=90), get_part_numbers(world.contoso)
    stale = {user for user, seen in get_last_seen(world).items() if seen < limit}
    expected = Counter(
        names[sku] for user, sku, _ in list_held(world.contoso) if user["id"] in stale
    )
    assert {row["product_name"]: row["licences"] for row in rows} == expected
    assert expected


def get_plan_names(tenant: Tenant) -> dict[tuple[str, str], str]:
    """The names of services by product and id, where Graph shows them."""
    if "subscribed_skus" in tenant.options.refused_resources:
        return {}
    return {
        (sku["skuId"], plan["servicePlanId"]): plan["servicePlanName"]
        for sku in tenant.iterate_live("subscribed_skus")
        for plan in sku["servicePlans"]
    }


def list_of_groups(tenant: Tenant) -> Iterator[tuple[Mapping[str, Any], str, int]]:
    """Each group with each product that it assigns, and how many services it leaves out."""
    for group in tenant.iterate_live("groups"):
        for one in group["assignedLicenses"] or ():
            yield group, one["skuId"], len(one["disabledPlans"])


def licences_of_groups(world: Analysts, rows: Sequence[Row]) -> None:
    names = get_part_numbers(world.contoso)
    expected = Counter(
        (group["displayName"], names[sku], disabled)
        for group, sku, disabled in list_of_groups(world.contoso)
    )
    assert Counter(tuple(row.values()) for row in rows) == expected
    assert ("Licensed by group", names[SKUS[0]], 1) in expected


def disabled_services(world: Analysts, rows: Sequence[Row]) -> None:
    expected: Counter[tuple[str, str | None, str]] = Counter()
    for name, tenant in list_customers(world):
        products, plans = get_part_numbers(tenant), get_plan_names(tenant)
        expected.update(
            (name, products.get(sku), plans.get((sku, plan), plan))
            for _, sku, disabled in list_held(tenant)
            for plan in disabled
        )
    found = {tuple(row.values())[:3]: row["users"] for row in rows}
    assert found == expected
    assert found["Contoso", "SANDBOX_2", "SANDBOX_2_PLAN_0"] == 1


def users_of_a_service(world: Analysts, rows: Sequence[Row]) -> None:
    wanted, names = "SANDBOX_2_PLAN_0", get_part_numbers(world.contoso)
    plans = [at for at, name in get_plan_names(world.contoso).items() if name == wanted]
    expected = Counter(
        (user["userPrincipalName"], user["accountEnabled"], names[sku])
        for user, sku, disabled in list_held(world.contoso)
        for product, plan in plans
        if sku == product and plan not in disabled
    )
    assert Counter(tuple(row.values()) for row in rows) == expected
    holders = sum(names[sku] == "SANDBOX_2" for _, sku, _ in list_held(world.contoso))
    assert len(rows) == holders - 1, "it is disabled for one"


ANSWERS: Final[Mapping[str, Check]] = {
    "disabled-with-licences": disabled_with_licences,
    "licences-of-customers": licences_of_customers,
    "licences-by-source": licences_by_source,
    "unused-licences": unused_licences,
    "licences-of-groups": licences_of_groups,
    "disabled-services": disabled_services,
    "users-of-a-service": users_of_a_service,
}
