"""A question about one customer reads rows of that customer alone, by indexes."""

import re
from typing import Final

import pytest

from migrations.views import VIEWS
from migrations.views.view import AnalyticsView
from tests.support.analysts import Analysts
from tests.support.plans import Plan, explain_without_statistics, walk

ID: Final = "cast('00000000-0000-4000-8000-000000000001' as uuid)"
BY_ID: Final = {
    "guests": f"id = {ID}",
    "deleted_users": f"id = {ID}",
    "user_mail_addresses": f"user_id = {ID}",
    "managers": f"user_id = {ID}",
    "sign_in_activity": f"user_id = {ID}",
    "group_members": f"group_id = {ID}",
    "group_owners": f"group_id = {ID}",
    "administrative_units": f"id = {ID}",
    "administrative_unit_members": f"unit_id = {ID}",
    "user_licenses": f"user_id = {ID}",
    "user_disabled_plans": f"user_id = {ID}",
    "group_licenses": f"group_id = {ID}",
    "license_plans": f"sku_id = {ID}",
    "license_summary": f"sku_id = {ID}",
    "role_permissions": f"role_definition_id = {ID}",
    "application_credentials": f"service_principal_id = {ID}",
    "changes": "object_id = 'x'",
    "coverage": "resource = 'users'",
    "coverage_gaps": "resource = 'users'",
}
"""Views, each with what finds one of its objects."""
BY_OTHER_END: Final = {
    "managers": f"manager_id = {ID}",
    "group_members": f"member_id = {ID}",
    "group_owners": f"owner_id = {ID}",
    "administrative_unit_members": f"member_id = {ID}",
}
THROUGH_GROUPS: Final = (
    *("effective_group_members", "effective_role_holders", "privileged_users", "findings"),
)
UNNAMED: Final = "ix_group_members_unnamed"
OF_ALL: Final = {
    *("product_names", "resources", "pseudonym_key"),
    *("privileged_roles", "privileged_actions", "privileged_permissions"),
}
"""Tables that are not about customers."""


def explain(world: Analysts, sql: str) -> Plan:
    return explain_without_statistics(world.database, sql)


def list_scans(plan: Plan) -> list[tuple[str, str]]:
    """The tables that are read, each with the condition of its index; empty without one."""
    found = []
    for node in walk(plan):
        table = node.get("Relation Name")
        if table is None or table in OF_ALL:
            continue
        conditions = [one.get("Index Cond", "") for one in walk(node)]
        found.append((table, " ".join(conditions)))
    return found


@pytest.mark.parametrize("view", BY_ID)
def test_one_object_is_found_without_reading_other_customers(analysts: Analysts, view: str) -> None:
    plan = explain(
        analysts, f"select * from analytics.{view} where connection_id = 1 and {BY_ID[view]}"
    )
    assert_of_one_customer(list_scans(plan))


@pytest.mark.parametrize("view", BY_ID)
def test_one_customer_is_read_without_the_others(analysts: Analysts, view: str) -> None:
    plan = explain(analysts, f"select * from analytics.{view} where connection_id = 1")
    assert_of_one_customer(list_scans(plan))


@pytest.mark.parametrize("schema", ["analytics", "analytics_pseudonymous"])
@pytest.mark.parametrize("view", THROUGH_GROUPS)
def test_what_is_followed_through_groups_stays_with_one_customer(
    analysts: Analysts, view: str, schema: str
) -> None:
    plan = explain(analysts, f"select * from {schema}.{view} where connection_id = 1")
    assert_of_one_customer(list_scans(plan))


@pytest.mark.parametrize("view", VIEWS, ids=lambda one: one.name)
def test_the_planner_expects_that_most_rows_are_not_deleted(view: AnalyticsView) -> None:
    """It has figures of each column, and takes one row in 200 to fulfil a condition on several."""
    assert not re.search(r"coalesce\([^()]*deleted_at[^()]*\) is null", view.render_query())


@pytest.mark.parametrize("view", BY_OTHER_END)
def test_the_other_end_is_found_by_an_index_as_well(analysts: Analysts, view: str) -> None:
    plan = explain(
        analysts, f"select * from analytics.{view} where connection_id = 1 and {BY_OTHER_END[view]}"
    )
    scans = list_scans(plan)
    assert_of_one_customer(scans)
    column = BY_OTHER_END[view].partition(" ")[0]
    assert any(table == view and column in condition for table, condition in scans), scans


@pytest.mark.parametrize(
    ("view", "table", "column"),
    [
        ("guests", "users", "id"),
        ("user_mail_addresses", "users", "id"),
        ("managers", "managers", "id"),
        ("sign_in_activity", "sign_in_activity", "id"),
        ("group_members", "group_members", "group_id"),
        ("group_owners", "group_owners", "group_id"),
        ("administrative_units", "administrative_units", "id"),
        ("administrative_unit_members", "administrative_unit_members", "unit_id"),
        ("user_licenses", "users", "id"),
        ("user_licenses", "group_members", "member_id"),
        ("user_disabled_plans", "users", "id"),
        ("group_licenses", "groups", "id"),
        ("role_permissions", "role_definitions", "id"),
        ("application_credentials", "service_principals", "id"),
    ],
)
def test_an_id_reaches_the_key(analysts: Analysts, view: str, table: str, column: str) -> None:
    plan = explain(
        analysts, f"select * from analytics.{view} where connection_id = 1 and {BY_ID[view]}"
    )
    conditions = [condition for name, condition in list_scans(plan) if name == table]
    assert any(f"({column} = " in one or f".{column} = " in one for one in conditions), conditions


def test_members_without_a_named_type_are_found_by_their_own_index(analysts: Analysts) -> None:
    of_type = "select * from analytics.group_members where connection_id = 1 and member_type = 'x'"
    plan = explain(analysts, of_type)
    named, unnamed = (one for one in walk(plan) if one.get("Relation Name") == "group_members")
    assert "EXISTS" not in named["Filter"]
    assert any(one.get("Index Name") == UNNAMED for one in walk(unnamed))


def test_the_planner_knows_how_many_members_are_users(analysts: Analysts) -> None:
    of_users = "from analytics.group_members where connection_id = 1 and member_type = 'user'"
    (row,) = analysts.ask_after(
        "analyze directory.group_members", f"explain (format json) select group_id {of_users}"
    )
    expected = row["QUERY PLAN"][0]["Plan"]["Plan Rows"]
    (found,) = analysts.ask(f"select count(*) as members {of_users}")
    assert found["members"] > 50
    assert found["members"] / 2 < expected < found["members"] * 2


def test_members_are_looked_up_by_what_a_question_joins(analysts: Analysts) -> None:
    more = """
        insert into directory.group_members
               (connection_id, group_id, member_id, member_type, first_seen_at, changed_at)
        select 1, gen_random_uuid(), gen_random_uuid(), 'user', now(), now()
          from generate_series(1, 20000);
        analyze directory.group_members, directory.users"""
    (row,) = analysts.ask_after(
        more,
        "explain (format json) select m.group_name"
        " from analytics.users u join analytics.group_members m"
        " on m.connection_id = u.connection_id and m.member_id = u.id"
        " where u.connection_id = 1 and u.user_principal_name = 'a' and m.member_type = 'user'",
    )
    plan = row["QUERY PLAN"][0]["Plan"]
    named, unnamed = (one for one in walk(plan) if one.get("Relation Name") == "group_members")
    assert re.search(r"\bmember_id = ", list_scans(named)[0][1])
    assert any(one.get("Index Name") == UNNAMED for one in walk(unnamed))


@pytest.mark.parametrize(
    "where",
    [
        "not account_enabled",
        "connection_id = 1",
        f"connection_id = 1 and sku_id = {ID}",
        f"connection_id = 1 and user_id = {ID}",
    ],
)
def test_where_licences_come_from_is_worked_out_for_who_selects_it(
    analysts: Analysts, where: str
) -> None:
    of_view = f"from analytics.user_licenses where {where}"
    plain = explain(
        analysts, f"select organization, product_name, count(*) {of_view} group by 1, 2"
    )
    assert not list_tables(plain) & {"groups", "group_members"}
    for column in ("licensed_through", "group_name"):
        traced = explain(analysts, f"select {column} {of_view}")
        assert list_tables(traced) >= {"groups", "group_members"}


def test_users_with_a_product_are_counted_for_who_selects_their_number(analysts: Analysts) -> None:
    of_view = "from analytics.licenses where connection_id = 1"
    assert "users" not in list_tables(explain(analysts, f"select product_name {of_view}"))
    assert "users" in list_tables(explain(analysts, f"select assigned_users {of_view}"))


def test_few_products_are_expected_of_each_user(analysts: Analysts) -> None:
    """A function on JSON is taken to return 100 rows, and sorts and hashes are made for them."""
    users = explain(analysts, "select * from analytics.users where connection_id = 1")
    licences = explain(analysts, "select * from analytics.user_licenses where connection_id = 1")
    assert licences["Plan Rows"] < 5 * users["Plan Rows"]


def test_few_groups_are_expected_in_a_group(analysts: Analysts) -> None:
    """Of a thousand, all users would be read for the members of one small group."""
    plan = explain(analysts, f"select * from analytics.groups_inside(1, {ID})")
    assert plan["Plan Rows"] < 100


def test_whether_activations_are_known_is_worked_out_once_for_all_holders(
    analysts: Analysts,
) -> None:
    plan = explain(analysts, "select state_known from analytics.effective_role_holders")
    (worked_out,) = (
        one
        for one in walk(plan)
        if one["Node Type"] == "Aggregate" and "resources" in list_relations(one)
    )
    assert "Group Key" in worked_out
    plain = explain(analysts, "select holder_id from analytics.effective_role_holders")
    assert "resources" not in list_relations(plain)


def list_relations(plan: Plan) -> set[str]:
    return {one["Relation Name"] for one in walk(plan) if "Relation Name" in one}


def list_tables(plan: Plan) -> set[str]:
    return {table for table, _ in list_scans(plan)}


def assert_of_one_customer(scans: list[tuple[str, str]]) -> None:
    assert scans
    for table, condition in scans:
        of_customer = "id = " if table == "connections" else "connection_id = "
        assert of_customer in condition, (table, condition)
