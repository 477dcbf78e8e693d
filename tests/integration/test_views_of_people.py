"""Guests, mail addresses, managers, sign-ins, owners and units, as the tenant has them."""

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from migrations.views.people import GUESTS
from sandbox.tenant.directory.truth import normalize_time
from tests.support.analysts import CONTOSO, FABRIKAM, Analysts
from tests.support.mirror import to_truth_value


def time_of(value: Any) -> Any:
    return None if value is None else to_truth_value(value)


def users_of(world: Analysts) -> dict[str, Mapping[str, Any]]:
    return {one["id"]: one for one in world.contoso.iterate_live("users")}


# ---- guests


def test_guests_are_the_users_of_that_type_with_their_invitations(analysts: Analysts) -> None:
    found = analysts.ask("select * from analytics.guests where connection_id = 1")
    truth = {k: one for k, one in users_of(analysts).items() if one["userType"] == "Guest"}
    assert {row["id"] for row in found} == truth.keys()
    for row in found:
        one = truth[row["id"]]
        pending = one["externalUserState"] == "PendingAcceptance"
        assert row["invitation_state"] == one["externalUserState"]
        assert row["is_pending"] is pending
        changed = normalize_time(one["externalUserStateChangeDateTime"])
        assert time_of(row["invitation_state_since"]) == changed
        assert time_of(row["pending_since"]) == (changed if pending else None)
        assert (row["organization"], row["creation_type"]) == ("Contoso", "Invitation")
        assert row["account_enabled"] is one["accountEnabled"]


@pytest.mark.parametrize(
    ("mail", "name", "domain"),
    [
        ("x@Home.Example", "y_other.example#EXT#@contoso.example", "home.example"),
        (None, "a_b_partner.example#EXT#@contoso.example", "partner.example"),
        ("", "plain@contoso.example", "contoso.example"),
        (None, None, None),
    ],
)
def test_the_home_domain_is_that_of_the_mail_else_of_the_name(
    analysts: Analysts, mail: str | None, name: str | None, domain: str | None
) -> None:
    """By the view's own expression."""
    (column,) = (one for one in GUESTS.columns if one.name == "home_domain")
    of = "(select cast(:mail as text) as mail, cast(:name as text) as user_principal_name) t"
    (row,) = analysts.ask(f"select {column.sql} as domain from {of}", mail=mail, name=name)
    assert row["domain"] == domain


def test_an_invitation_says_since_when_it_waits(analysts: Analysts) -> None:
    (row,) = analysts.ask(
        "select * from analytics.guests where id = cast(:id as uuid)", id=analysts.ids["guest"]
    )
    assert row["home_domain"] == "partner.example"
    assert row["pending_since"] == datetime(2026, 9, 1, 8, tzinfo=UTC)


# ---- mail addresses


def test_each_mail_address_is_a_row_in_lower_case(analysts: Analysts) -> None:
    expected: Counter[tuple[str, str, str, bool]] = Counter()
    for key, one in users_of(analysts).items():
        if one["mail"]:
            expected[key, "mail", one["mail"].lower(), True] = 1
        proxies = [p for p in one["proxyAddresses"] or () if p.lower().startswith("smtp:")]
        for address in {p[5:].lower() for p in proxies}:
            expected[key, "proxy", address, f"SMTP:{address}" in lowered(proxies)] = 1
        for address in {other.lower() for other in one["otherMails"] or ()}:
            expected[key, "other", address, False] = 1
    found = analysts.ask("select * from analytics.user_mail_addresses where connection_id = 1")
    columns = ("user_id", "kind", "address", "is_primary")
    assert Counter(tuple(row[name] for name in columns) for row in found) == expected
    assert all(row["domain"] == row["address"].partition("@")[2] for row in found)


def lowered(proxies: list[str]) -> set[str]:
    """With the prefix, which tells the primary one, as it was."""
    return {one[:5] + one[5:].lower() for one in proxies}


def test_addresses_of_other_protocols_are_no_mail_addresses(analysts: Analysts) -> None:
    found = analysts.ask(
        "select address from analytics.user_mail_addresses"
        " where connection_id = 1 and user_id = cast(:id as uuid) and kind = 'proxy' order by 1",
        id=analysts.ids["anna"],
    )
    assert [row["address"] for row in found] == ["ab@contoso.example", "anna.berg@contoso.example"]


# ---- managers and sign-ins


def test_managers_have_the_names_of_both(analysts: Analysts) -> None:
    users = users_of(analysts)
    truth = {one["id"]: one["manager"]["id"] for one in analysts.contoso.iterate_live("managers")}
    found = analysts.ask("select * from analytics.managers where connection_id = 1")
    assert {row["user_id"]: row["manager_id"] for row in found} == truth
    for row in found:
        user, manager = users[row["user_id"]], users[row["manager_id"]]
        assert (row["user_name"], row["manager_name"]) == (
            user["displayName"],
            manager["displayName"],
        )
        assert row["manager_account_enabled"] is manager["accountEnabled"]
        assert (row["since"], row["since_exact"]) == (None, False)


def test_sign_ins_have_the_times_of_the_tenant_and_no_row_where_none_is_known(
    analysts: Analysts,
) -> None:
    truth = {
        one["id"]: one["signInActivity"]
        for one in analysts.contoso.iterate_live("sign_in_activity")
    }
    found = analysts.ask("select * from analytics.sign_in_activity where connection_id = 1")
    assert {row["user_id"] for row in found} == truth.keys() < users_of(analysts).keys()
    names = {
        "last_sign_in_date_time": "lastSignInDateTime",
        "last_non_interactive_sign_in_date_time": "lastNonInteractiveSignInDateTime",
        "last_successful_sign_in_date_time": "lastSuccessfulSignInDateTime",
    }
    for row in found:
        for column, name in names.items():
            assert time_of(row[column]) == normalize_time(truth[row["user_id"]][name])


@pytest.mark.parametrize("view", ["managers", "sign_in_activity"])
def test_what_is_switched_off_has_no_rows(analysts: Analysts, view: str) -> None:
    found = analysts.ask(f"select connection_id from analytics.{view} where connection_id = 2")
    assert found == []
    (row,) = analysts.ask(
        f"select phase from analytics.freshness where connection_id = {FABRIKAM}"
        f" and resource = '{view}'"
    )
    assert row["phase"] == "off"


def test_teams_are_the_groups_with_one(analysts: Analysts) -> None:
    found = analysts.ask("select id, is_team from analytics.groups where connection_id = 1")
    assert {row["id"]: row["is_team"] for row in found} == {
        one["id"]: "Team" in (one.get("resourceProvisioningOptions") or ())
        for one in analysts.contoso.iterate_live("groups")
    }


@pytest.mark.parametrize(
    ("view", "table", "end"),
    [
        ("app_role_assignments", "service_principals", "principal_id"),
        ("app_role_assignments", "service_principals", "resource_id"),
        ("permission_grants", "service_principals", "client_id"),
        ("permission_grants", "service_principals", "resource_id"),
        ("permission_grants", "users", "principal_id"),
        ("group_owners", "users", "owner_id"),
        ("managers", "users", "manager_id"),
        ("sign_in_activity", "users", "user_id"),
        ("administrative_unit_members", "users", "member_id"),
        ("role_assignments", "users", "principal_id"),
        ("effective_role_holders", "users", "holder_id"),
    ],
)
def test_who_is_deleted_has_nothing_any_more(
    analysts: Analysts, view: str, table: str, end: str
) -> None:
    held = (
        f"select v.{end} from analytics.{view} v join directory.{table} x"
        f" on x.connection_id = v.connection_id and x.id = v.{end} where v.connection_id = 1"
    )
    assert analysts.ask(held)
    gone = f"update directory.{table} set deleted_at = now(), deleted_reason = 'soft_deleted'"
    assert analysts.ask_after(gone, held) == []


# ---- owners and units


def test_owners_of_groups_have_names_and_types(analysts: Analysts) -> None:
    people, groups = users_of(analysts), analysts.tell_names("groups")
    names = {k: one["displayName"] for k, one in people.items()}
    names |= analysts.tell_names("service_principals")
    truth = {
        (one["groupId"], one["id"]): one["@odata.type"].rpartition(".")[2]
        for one in analysts.contoso.iterate_live("group_owners")
    }
    found = analysts.ask("select * from analytics.group_owners where connection_id = 1")
    assert {(row["group_id"], row["owner_id"]) for row in found} == truth.keys()
    for row in found:
        kind = truth[row["group_id"], row["owner_id"]]
        assert row["owner_type"] == {"servicePrincipal": "service_principal"}.get(kind, kind)
        assert row["owner_name"] == names[row["owner_id"]]
        assert row["group_name"] == groups[row["group_id"]]
        if row["owner_id"] in people:
            assert row["owner_account_enabled"] is people[row["owner_id"]]["accountEnabled"]


def test_an_owner_has_a_beginning_where_it_was_seen(analysts: Analysts) -> None:
    found = analysts.ask(
        "select owner_id, since is not null as seen, since_exact from analytics.group_owners"
        " where connection_id = 1 and group_id = cast(:id as uuid)",
        id=analysts.ids["finance"],
    )
    seen = {row["owner_id"]: (row["seen"], row["since_exact"]) for row in found}
    assert seen == {
        analysts.ids["bert"]: (False, False),
        analysts.ids["anna"]: (True, True),
    }


def test_units_and_their_members_are_those_of_the_tenant(analysts: Analysts) -> None:
    units = {one["id"]: one for one in analysts.contoso.iterate_live("administrative_units")}
    found = analysts.ask("select * from analytics.administrative_units where connection_id = 1")
    assert {row["id"] for row in found} == units.keys()
    for row in found:
        one = units[row["id"]]
        assert row["is_dynamic"] is (one["membershipType"] == "Dynamic")
        assert row["is_membership_hidden"] is (one["visibility"] == "HiddenMembership")
        assert row["scope"] == f"/administrativeUnits/{row['id']}"
    names = analysts.tell_names("users") | analysts.tell_names("groups")
    members = {
        (one["unitId"], one["id"]): names[one["id"]]
        for one in analysts.contoso.iterate_live("administrative_unit_members")
    }
    found = analysts.ask(
        f"select * from analytics.administrative_unit_members where connection_id = {CONTOSO}"
    )
    assert {(row["unit_id"], row["member_id"]): row["member_name"] for row in found} == members
    assert all(row["unit_name"] == units[row["unit_id"]]["displayName"] for row in found)


# ---- deleted users


def test_deleted_users_have_their_evidence_and_are_in_no_other_view(analysts: Analysts) -> None:
    gone = analysts.ids["gone"]
    (row,) = analysts.ask("select * from analytics.deleted_users")
    assert (row["connection_id"], row["id"], row["display_name"]) == (1, gone, "Gone Away")
    assert (row["deleted_reason"], row["is_guest"]) == ("soft_deleted", False)
    assert row["first_seen_at"] < row["deleted_at"]
    assert analysts.ask(f"select from analytics.users where id = '{gone}'") == []


def test_a_restored_user_is_deleted_no_longer(analysts: Analysts) -> None:
    change = "update directory.users set deleted_at = null, deleted_reason = null"
    assert analysts.ask_after(change, "select * from analytics.deleted_users") == []
