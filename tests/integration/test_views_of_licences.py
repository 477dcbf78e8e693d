"""Who has which product, through what, and what customers have of it; unknown is never 0."""

from collections import Counter

import pytest

from sandbox.tenant import Tenant
from sandbox.tenant.directory.templates.users import SKUS
from tests.support.analysts import KNOWN_PLAN, PLANS, Analysts
from tests.support.examples.licences import (
    find_sources,
    get_part_numbers,
    get_plan_names,
    list_held,
    list_of_groups,
)

THROUGH = "select user_id, sku_id, licensed_through from analytics.user_licenses where "
KEPT_APART = "select distinct licensed_through as source from analytics.user_licenses"


def test_each_product_of_each_user_is_a_row_with_its_plans(analysts: Analysts) -> None:
    plans = {
        one["skuId"]: len(one["servicePlans"])
        for one in analysts.contoso.iterate_live("subscribed_skus")
    }
    names = get_part_numbers(analysts.contoso)
    expected = Counter(
        (user["id"], sku, names[sku], plans[sku], len(disabled), user["accountEnabled"])
        for user, sku, disabled in list_held(analysts.contoso)
    )
    columns = ("user_id", "sku_id", "sku_part_number", "plan_count", "disabled_plan_count")
    found = analysts.ask("select * from analytics.user_licenses where connection_id = 1")
    assert expected == Counter(
        (*(row[name] for name in columns), row["account_enabled"]) for row in found
    )
    for row in found:
        enabled = max(row["plan_count"] - row["disabled_plan_count"], 0)
        assert row["enabled_plan_count"] == enabled


@pytest.mark.parametrize("customer", [1, 2])
def test_licences_are_traced_to_groups_as_far_as_it_can_be_known(
    analysts: Analysts, customer: int
) -> None:
    tenant = analysts.contoso if customer == 1 else analysts.fabrikam
    found = analysts.ask(f"{THROUGH} connection_id = {customer}")
    traced = {(row["user_id"], row["sku_id"]): row["licensed_through"] for row in found}
    assert traced == find_sources(tenant)


def test_a_plan_that_no_group_includes_proves_a_direct_licence(analysts: Analysts) -> None:
    found = analysts.ask(
        "select display_name, licensed_through, group_count, group_name"
        " from analytics.user_licenses where connection_id = 1 and sku_id = cast(:sku as uuid)"
        " and display_name in ('Anna Berg', 'Bert Holm', 'Cleo Lind') order by 1",
        sku=SKUS[0],
    )
    assert [tuple(row.values()) for row in found] == [
        ("Anna Berg", "group", 1, "Licensed by group"),
        ("Bert Holm", "both", 1, "Licensed by group"),
        ("Cleo Lind", "direct", 0, None),
    ]


@pytest.mark.parametrize(
    "change",
    [
        "update sync.streams set phase = 'refused' where resource = 'groups'",
        "update sync.streams set fresh_at = null where resource = 'groups'",
        "update sync.streams set off_at = now() where resource = 'groups'",
        "update sync.streams set dropped = '{assignedLicenses}' where resource = 'groups'",
        "update sync.streams set dropped = '{members}' where resource = 'groups'",
        "update sync.streams set left_out = '{assignedLicenses}' where resource = 'groups'",
        "update sync.streams set walked_columns = '{id}' where resource = 'groups'",
        "delete from sync.streams where resource = 'groups'",
    ],
)
def test_a_licence_is_not_called_direct_where_groups_are_not_known(
    analysts: Analysts, change: str
) -> None:
    where = "where connection_id = 2"
    assert analysts.ask(f"{KEPT_APART} {where}") == [{"source": "direct"}]
    assert analysts.ask_after(change, f"{KEPT_APART} {where}") == [{"source": "unknown"}]


def test_a_group_with_hidden_members_may_be_the_source(analysts: Analysts) -> None:
    hidden = (
        "with hidden as (update directory.groups set visibility = 'HiddenMembership',"
        f""" assigned_licenses = '[{{"skuId": "{SKUS[0]}", "disabledPlans": []}}]'"""
        " where connection_id = 2 and id = (select min(id::text)::uuid from directory.groups"
        " where connection_id = 2) returning id)"
        " update directory.group_members set deleted_at = now() where connection_id = 2"
        " and group_id = (select id from hidden)"
    )
    of = "select distinct licensed_through as source from analytics.user_licenses"
    where = f"where connection_id = 2 and sku_id = '{SKUS[0]}'"
    assert analysts.ask_after(hidden, f"{of} {where}") == [{"source": "unknown"}]
    other = f"where connection_id = 2 and sku_id = '{SKUS[1]}'"
    assert analysts.ask_after(hidden, f"{of} {other}") == [{"source": "direct"}]


def test_two_groups_add_up(analysts: Analysts) -> None:
    """What one of them leaves out and the other has needs no direct licence."""
    other = (
        "update directory.groups set assigned_licenses ="
        f""" '[{{"skuId": "{SKUS[0]}", "disabledPlans": ["{PLANS[1]}"]}}]'"""
        f" where id = '{analysts.ids['finance']}'"
    )
    joined = (
        "with other as (" + other + " returning id) insert into directory.group_members"
        " (connection_id, group_id, member_id, member_type, first_seen_at, changed_at)"
        f" select 1, id, '{analysts.ids['bert']}', 'user', now(), now() from other"
    )
    (row,) = analysts.ask_after(
        joined,
        f"{THROUGH} user_id = '{analysts.ids['bert']}'",
    )
    assert row["licensed_through"] == "group"


# ---- what groups assign, and what is disabled


def get_tenant(world: Analysts, customer: int) -> Tenant:
    return world.contoso if customer == 1 else world.fabrikam


@pytest.mark.parametrize("customer", [1, 2])
def test_each_product_of_each_group_is_a_row(analysts: Analysts, customer: int) -> None:
    tenant = get_tenant(analysts, customer)
    names = get_part_numbers(tenant)
    expected = Counter(
        (group["id"], group["displayName"], sku, names.get(sku), disabled)
        for group, sku, disabled in list_of_groups(tenant)
    )
    columns = ("group_id", "group_name", "sku_id", "product_name", "disabled_plan_count")
    found = analysts.ask(f"select * from analytics.group_licenses where connection_id = {customer}")
    assert Counter(tuple(row[name] for name in columns) for row in found) == expected


def test_each_service_of_each_product_is_a_row(analysts: Analysts) -> None:
    names = ("servicePlanId", "servicePlanName", "provisioningStatus", "appliesTo")
    expected = Counter(
        (sku["skuId"], sku["skuPartNumber"], *(plan[name] for name in names))
        for sku in analysts.contoso.iterate_live("subscribed_skus")
        for plan in sku["servicePlans"]
    )
    columns = (
        *("sku_id", "sku_part_number", "service_plan_id", "service_plan_name"),
        *("provisioning_status", "applies_to"),
    )
    found = analysts.ask("select * from analytics.license_plans")
    assert Counter(tuple(row[name] for name in columns) for row in found) == expected
    assert {row["connection_id"] for row in found} == {1}, "the other customer refuses products"


@pytest.mark.parametrize("customer", [1, 2])
def test_each_disabled_service_of_each_user_is_a_row_with_its_name(
    analysts: Analysts, customer: int
) -> None:
    tenant = get_tenant(analysts, customer)
    products, plans = get_part_numbers(tenant), get_plan_names(tenant)
    expected = Counter(
        (user["id"], sku, products.get(sku), plan, plans.get((sku, plan)))
        for user, sku, disabled in list_held(tenant)
        for plan in disabled
    )
    columns = ("user_id", "sku_id", "product_name", "service_plan_id", "service_plan_name")
    found = analysts.ask(
        f"select * from analytics.user_disabled_plans where connection_id = {customer}"
    )
    assert Counter(tuple(row[name] for name in columns) for row in found) == expected
    assert (customer == 1) is (KNOWN_PLAN in {row["service_plan_id"] for row in found})


LICENSED = [
    ("groups", "licensed", "group_licenses", "group_id"),
    ("users", "anna", "user_disabled_plans", "user_id"),
]
"""A table, one of its objects, and the view that shows its licences by this column."""


@pytest.mark.parametrize(("table", "name", "view", "column"), LICENSED)
def test_who_is_deleted_assigns_and_has_nothing(
    analysts: Analysts, table: str, name: str, view: str, column: str
) -> None:
    found = analysts.ids[name]
    of = f"select * from analytics.{view} where {column} = '{found}'"
    delete = f"update directory.{table} set deleted_at = now() where id = '{found}'"
    assert len(analysts.ask(of)) == 1
    assert analysts.ask_after(delete, of) == []


@pytest.mark.parametrize(
    ("odd", "products"),
    [
        ("""[{"skuId": "none"}, {"skuId": null}, 7, null, "x", {}]""", 0),
        (f"""[{{"skuId": "{SKUS[0]}", "disabledPlans": [7, null, "x"]}}]""", 1),
        (f"""[{{"skuId": "{SKUS[0]}", "disabledPlans": null}}]""", 1),
        (f"""[{{"skuId": "{SKUS[0]}", "disabledPlans": {{"a": 1}}}}]""", 1),
    ],
)
def test_odd_licences_of_graph_fail_no_query(analysts: Analysts, odd: str, products: int) -> None:
    rows = {}
    for table, name, view, column in LICENSED:
        where = f"= '{analysts.ids[name]}'"
        change = f"update directory.{table} set assigned_licenses = '{odd}' where id {where}"
        rows[view] = analysts.ask_after(
            change, f"select sku_id from analytics.{view} where {column} {where}"
        )
    assert rows["group_licenses"] == [{"sku_id": SKUS[0]}] * products
    assert rows["user_disabled_plans"] == []
    change = "; ".join(
        f"update directory.{table} set assigned_licenses = '{odd}' where connection_id = 1"
        for table in ("users", "groups")
    )
    for view in ("license_summary", "licenses", "findings", "users", "groups"):
        analysts.ask_after(change, f"select * from analytics.{view} where connection_id = 1")
    users = analysts.ask("select from analytics.users where connection_id = 1")
    found = analysts.ask_after(
        change, "select * from analytics.user_licenses where connection_id = 1"
    )
    assert len(found) == products * len(users)


# ---- what customers have


def test_the_summary_counts_as_the_tenant_does(analysts: Analysts) -> None:
    expected = {}
    for one in analysts.contoso.iterate_live("subscribed_skus"):
        holders = [u for u, sku, _ in list_held(analysts.contoso) if sku == one["skuId"]]
        bought = one["prepaidUnits"]["enabled"] + one["prepaidUnits"]["warning"]
        expected[one["skuId"]] = (
            *(bought, one["consumedUnits"], bought - one["consumedUnits"], len(holders)),
            sum(not user["accountEnabled"] for user in holders),
            sum(user["userType"] == "Guest" for user in holders),
        )
    found = analysts.ask("select * from analytics.license_summary where connection_id = 1")
    columns = (
        *("bought_units", "consumed_units", "free_units", "assigned_users"),
        *("assigned_disabled_users", "assigned_guests"),
    )
    assert {row["sku_id"]: tuple(row[name] for name in columns) for row in found} == expected
    (fresh,) = analysts.ask(
        "select min(fresh_at) as at from analytics.freshness"
        " where connection_id = 1 and resource in ('users', 'subscribed_skus')"
    )
    assert {row["fresh_at"] for row in found} == {fresh["at"]}


def test_what_is_refused_is_null_and_the_rest_is_counted(analysts: Analysts) -> None:
    held = Counter(sku for _, sku, _ in list_held(analysts.fabrikam))
    found = analysts.ask("select * from analytics.license_summary where connection_id = 2")
    assert {row["sku_id"]: row["assigned_users"] for row in found} == held
    for name in ("bought_units", "consumed_units", "free_units", "capability_status"):
        assert {row[name] for row in found} == {None}, name


@pytest.mark.parametrize(
    "change",
    [
        "update sync.streams set fresh_at = null where resource = 'users'",
        "update sync.streams set dropped = '{assignedLicenses}' where resource = 'users'",
        "update sync.streams set phase = 'refused' where resource = 'users'",
    ],
)
def test_users_that_are_not_known_are_no_zero(analysts: Analysts, change: str) -> None:
    found = analysts.ask_after(
        change, "select * from analytics.license_summary where connection_id = 1"
    )
    assert all(row["bought_units"] is not None for row in found)
    for name in ("assigned_users", "assigned_disabled_users", "assigned_guests"):
        assert {row[name] for row in found} == {None}, name
    products = analysts.ask_after(
        change, "select * from analytics.licenses where connection_id = 1"
    )
    for name in ("assigned_users", "assigned_disabled_users"):
        assert {row[name] for row in products} == {None}, name


def test_an_expired_subscription_counts_as_bought(analysts: Analysts) -> None:
    (row,) = analysts.ask_after(
        "update directory.subscribed_skus set prepaid_enabled = 3, prepaid_warning = 4,"
        f" consumed_units = 9 where connection_id = 1 and sku_id = '{SKUS[0]}'",
        "select bought_units, free_units from analytics.license_summary"
        f" where connection_id = 1 and sku_id = '{SKUS[0]}'",
    )
    assert (row["bought_units"], row["free_units"]) == (7, -2)


def test_products_are_as_fresh_as_the_older_of_both_resources(analysts: Analysts) -> None:
    found = analysts.ask("select distinct fresh_at from analytics.licenses where connection_id = 1")
    (oldest,) = analysts.ask(
        "select min(fresh_at) as fresh_at from analytics.freshness"
        " where connection_id = 1 and resource in ('users', 'subscribed_skus')"
    )
    assert found == [oldest]
