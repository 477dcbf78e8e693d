"""Answers about groups, their members, and passwords."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from tests.support.analysts import Analysts, Row
from tests.support.examples import Check
from tests.support.examples.people import get_users, list_customers, parse_time


def stale_passwords(world: Analysts, rows: Sequence[Row]) -> None:
    limit = datetime.now(UTC) - timedelta(days=366)
    expected = set()
    for one in get_users(world.contoso).values():
        is_own = not one["onPremisesSyncEnabled"] and one["userType"] != "Guest"
        changed = parse_time(one["lastPasswordChangeDateTime"])
        never = "DisablePasswordExpiration" in (one["passwordPolicies"] or "")
        if one["accountEnabled"] and is_own and (never or (changed and changed < limit)):
            expected.add(one["userPrincipalName"])
    assert {row["user_principal_name"] for row in rows} == expected
    assert expected


def _get_groups(world: Analysts) -> list[Mapping[str, Any]]:
    return list(world.contoso.iterate_live("groups"))


def public_groups(world: Analysts, rows: Sequence[Row]) -> None:
    expected = Counter(
        (one["displayName"], len(world.contoso.members_of(one["id"])))
        for one in _get_groups(world)
        if "Unified" in one["groupTypes"] and one["visibility"] == "Public"
    )
    assert Counter((row["display_name"], row["members"]) for row in rows) == expected
    assert expected


def paused_rules(world: Analysts, rows: Sequence[Row]) -> None:
    expected = Counter(
        (name, one["displayName"])
        for name, tenant in list_customers(world)
        for one in tenant.iterate_live("groups")
        if "DynamicMembership" in one["groupTypes"]
        and one["membershipRuleProcessingState"] == "Paused"
    )
    assert Counter((row["organization"], row["display_name"]) for row in rows) == expected
    assert ("Contoso", "By a rule") in expected


def expiring_groups(world: Analysts, rows: Sequence[Row]) -> None:
    limit, people = datetime.now(UTC) + timedelta(days=365), get_users(world.contoso)
    expected = {}
    for one in _get_groups(world):
        ends = parse_time(one["expirationDateTime"])
        if ends and ends < limit:
            owners = sorted(
                people[o.id]["userPrincipalName"] for o in world.contoso.owners_of(one["id"])
            )
            expected[one["displayName"]] = ", ".join(owners) or None
    assert {row["display_name"]: row["owners"] for row in rows} == expected
    assert expected["By a rule"] == "anna.berg@contoso.example, bert.holm@contoso.example"


def members_of_a_group(world: Analysts, rows: Sequence[Row]) -> None:
    found = [(row["member_type"], row["member"], row["since"]) for row in rows]
    assert found == [
        ("user", "anna.berg@contoso.example", None),
        ("user", "bert.holm@contoso.example", None),
    ]
    assert all(row["at_least_since"] for row in rows)


def guests_in_groups(world: Analysts, rows: Sequence[Row]) -> None:
    guests = {k: u for k, u in get_users(world.contoso).items() if u["userType"] == "Guest"}
    expected = Counter(
        (guests[member.id]["displayName"], one["displayName"])
        for one in _get_groups(world)
        for member in world.contoso.members_of(one["id"])
        if member.id in guests
    )
    assert Counter((row["guest"], row["group_name"]) for row in rows) == expected
    assert ("Gina Away", "By a rule") in expected
    assert all(row["is_pending"] for row in rows if row["guest"] == "Gina Away")


def review_sheet(world: Analysts, rows: Sequence[Row]) -> None:
    people = get_users(world.contoso)
    expected = Counter(
        (one["displayName"], people[member.id]["userPrincipalName"])
        for one in _get_groups(world)
        for member in world.contoso.members_of(one["id"])
        if member.id in people
    )
    assert Counter((row["group_name"], row["user_principal_name"]) for row in rows) == expected
    (row,) = (
        one
        for one in rows
        if (one["group_name"], one["user_principal_name"])
        == ("Finance", "anna.berg@contoso.example")
    )
    assert row["owners"] == "anna.berg@contoso.example, bert.holm@contoso.example"
    assert row["manager_user_principal_name"] == "bert.holm@contoso.example"
    assert row["since"] == row["at_least_since"]


def left_over_memberships(world: Analysts, rows: Sequence[Row]) -> None:
    """Bert moved; Anna, who joined Finance, did not."""
    assert [tuple(row.values()) for row in rows] == [
        ("Bert Holm", "Law", "Sales", "Licensed by group"),
    ]


ANSWERS: Final[Mapping[str, Check]] = {
    "stale-passwords": stale_passwords,
    "public-groups": public_groups,
    "paused-rules": paused_rules,
    "expiring-groups": expiring_groups,
    "members-of-a-group": members_of_a_group,
    "guests-in-groups": guests_in_groups,
    "review-sheet": review_sheet,
    "left-over-memberships": left_over_memberships,
}
