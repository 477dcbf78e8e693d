"""Answers about accounts, guests, managers, owners and units."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sandbox.tenant import Tenant
from sandbox.tenant.directory.truth import normalize_time
from tests.support.analysts import Analysts, Row
from tests.support.examples import Check

_TIMES: Final = (
    "lastSignInDateTime",
    "lastNonInteractiveSignInDateTime",
    "lastSuccessfulSignInDateTime",
)


def get_users(tenant: Tenant) -> dict[str, Mapping[str, Any]]:
    return {one["id"]: one for one in tenant.iterate_live("users")}


def parse_time(value: str | None) -> datetime | None:
    text = value and normalize_time(value)
    return datetime.fromisoformat(text) if text else None


def list_customers(world: Analysts) -> Iterator[tuple[str, Tenant]]:
    yield from (("Contoso", world.contoso), ("Fabrikam", world.fabrikam))


def accounts_by_kind(world: Analysts, rows: Sequence[Row]) -> None:
    expected: dict[tuple[str, str | None, str | None], Counter[str]] = {}
    for name, tenant in list_customers(world):
        for one in get_users(tenant).values():
            of = expected.setdefault((name, one["department"], one["country"]), Counter())
            guest, enabled = one["userType"] == "Guest", one["accountEnabled"]
            of["enabled"] += enabled
            of["enabled_members"] += enabled and not guest
            of["enabled_guests"] += enabled and guest
            of["synchronized"] += bool(one["onPremisesSyncEnabled"])
            of["cloud_only"] += not one["onPremisesSyncEnabled"]
    assert len(rows) == len(expected)
    for row in rows:
        of = expected[row["organization"], row["department"], row["country"]]
        assert all(row[name] == number for name, number in of.items())


def get_last_seen(world: Analysts) -> dict[str, datetime]:
    return {
        one["id"]: max(
            time for name in _TIMES if (time := parse_time(one["signInActivity"].get(name)))
        )
        for one in world.contoso.iterate_live("sign_in_activity")
    }


def not_signed_in(world: Analysts, rows: Sequence[Row]) -> None:
    users, limit = get_users(world.contoso), datetime.now(UTC) - timedelta(days=90)
    expected = {
        users[one]["userPrincipalName"]: seen
        for one, seen in get_last_seen(world).items()
        if seen < limit and users[one]["accountEnabled"]
    }
    assert {row["user_principal_name"]: row["last_seen_at"] for row in rows} == expected
    assert expected


def sign_in_not_known(world: Analysts, rows: Sequence[Row]) -> None:
    known = get_last_seen(world)
    expected = sorted(
        one["userPrincipalName"]
        for key, one in get_users(world.contoso).items()
        if one["accountEnabled"] and key not in known
    )
    assert sorted(row["user_principal_name"] for row in rows) == expected
    assert expected


def _collect_addresses(one: Mapping[str, Any]) -> set[str]:
    found = [one["mail"] or "", *(one["otherMails"] or ())]
    proxies = one["proxyAddresses"] or ()
    found += [text[5:] for text in proxies if text.lower().startswith("smtp:")]
    return {text.lower() for text in found if text}


def same_mail_address(world: Analysts, rows: Sequence[Row]) -> None:
    expected: dict[tuple[str, str], int] = {}
    for name, tenant in list_customers(world):
        held = Counter(a for one in get_users(tenant).values() for a in _collect_addresses(one))
        expected |= {(name, address): number for address, number in held.items() if number > 1}
    found = {(row["organization"], row["address"]): row["accounts"] for row in rows}
    assert found == expected
    assert ("Contoso", "anna@post.example") in found


def resource_accounts(world: Analysts, rows: Sequence[Row]) -> None:
    expected = [
        (name, one["userPrincipalName"])
        for name, tenant in list_customers(world)
        for one in get_users(tenant).values()
        if one["isResourceAccount"] and one["accountEnabled"]
    ]
    found = [(row["organization"], row["user_principal_name"]) for row in rows]
    assert sorted(found) == sorted(expected)


def _get_guests(tenant: Tenant) -> list[Mapping[str, Any]]:
    return [one for one in get_users(tenant).values() if one["userType"] == "Guest"]


def guests_by_domain(world: Analysts, rows: Sequence[Row]) -> None:
    """All guests of simulated tenants come from one domain."""
    for row, (name, tenant) in zip(rows, list_customers(world), strict=True):
        guests = _get_guests(tenant)
        pending = sum(one["externalUserState"] == "PendingAcceptance" for one in guests)
        assert (row["organization"], row["home_domain"]) == (name, "partner.example")
        assert (row["guests"], row["pending"]) == (len(guests), pending)


def pending_invitations(world: Analysts, rows: Sequence[Row]) -> None:
    limit = datetime.now(UTC) - timedelta(days=30)
    expected = Counter(
        (one["displayName"], since)
        for one in _get_guests(world.contoso)
        if one["externalUserState"] == "PendingAcceptance"
        and (since := parse_time(one["externalUserStateChangeDateTime"]))
        and since < limit
    )
    assert Counter((row["display_name"], row["pending_since"]) for row in rows) == expected
    (gina,) = (row for row in rows if row["display_name"] == "Gina Away")
    # A day may end between the question and this line.
    assert 0 <= (datetime.now(UTC) - gina["pending_since"]).days - gina["days"] <= 1


def ownerless_groups(world: Analysts, rows: Sequence[Row]) -> None:
    people = get_users(world.contoso)
    expected: Counter[tuple[str, int]] = Counter()
    for one in world.contoso.iterate_live("groups"):
        owners = world.contoso.owners_of(one["id"])
        if not any(o.id not in people or people[o.id]["accountEnabled"] for o in owners):
            expected[one["displayName"], len(owners)] += 1
    assert Counter((row["display_name"], row["owners"]) for row in rows) == expected
    assert ("Licensed by group", 0) in expected


def managers_who_left(world: Analysts, rows: Sequence[Row]) -> None:
    users = get_users(world.contoso)
    pairs = (
        (users[one["id"]], users[one["manager"]["id"]])
        for one in world.contoso.iterate_live("managers")
    )
    expected = sorted(
        (user["userPrincipalName"], manager["userPrincipalName"])
        for user, manager in pairs
        if user["accountEnabled"] and not manager["accountEnabled"]
    )
    found = [(row["user_principal_name"], row["manager_user_principal_name"]) for row in rows]
    assert sorted(found) == expected
    assert ("anna.berg@contoso.example", "bert.holm@contoso.example") in found


def unit_administrators(world: Analysts, rows: Sequence[Row]) -> None:
    tenant = world.contoso
    members = Counter(
        one["unitId"]
        for one in tenant.iterate_live("administrative_unit_members")
        if one["@odata.type"].endswith(".user")
    )
    units, people = (
        {one["id"]: one for one in tenant.iterate_live("administrative_units")},
        {
            **world.tell_names("users"),
            **world.tell_names("groups"),
            **world.tell_names("service_principals"),
        },
    )
    roles = world.tell_names("role_definitions")
    expected: Counter[tuple[str, str, str, int]] = Counter()
    for one in tenant.iterate_live("role_assignments"):
        unit = units.get(one["directoryScopeId"].removeprefix("/administrativeUnits/"))
        if unit:
            holder = (roles[one["roleDefinitionId"]], people[one["principalId"]])
            expected[unit["displayName"], *holder, members[unit["id"]]] += 1
    columns = ("unit", "role_name", "principal_name", "users")
    assert Counter(tuple(row[name] for name in columns) for row in rows) == expected
    assert expected


ANSWERS: Final[Mapping[str, Check]] = {
    "accounts-by-kind": accounts_by_kind,
    "not-signed-in": not_signed_in,
    "sign-in-not-known": sign_in_not_known,
    "same-mail-address": same_mail_address,
    "resource-accounts": resource_accounts,
    "guests-by-domain": guests_by_domain,
    "pending-invitations": pending_invitations,
    "ownerless-groups": ownerless_groups,
    "managers-who-left": managers_who_left,
    "unit-administrators": unit_administrators,
}
