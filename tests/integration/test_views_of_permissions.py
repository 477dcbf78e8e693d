"""With what applications sign in and until when, and what roles allow, as tenants have it."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from sandbox.tenant import Tenant
from tests.support.analysts import Analysts, Row

CREDENTIALS = "select * from analytics.application_credentials"
OF_CREDENTIALS = ("analytics.application_credentials", "service_principal_id")
ROLES = "select * from analytics.role_permissions"
RESET = "microsoft.directory/users/password/update"
READ = "microsoft.directory/users/standard/read"


def get_tenant(world: Analysts, customer: int) -> Tenant:
    return world.contoso if customer == 1 else world.fabrikam


def parse_time(sent: str) -> datetime:
    """Read a time that Graph sends, whose fractions are finer than ours."""
    second, _, fraction = sent.removesuffix("Z").partition(".")
    part = timedelta(microseconds=round(float(f"0.{fraction or 0}") * 1_000_000))
    return datetime.fromisoformat(second).replace(tzinfo=UTC) + part


# ---- certificates and secrets


@pytest.mark.parametrize("customer", [1, 2])
def test_each_certificate_and_secret_is_a_row_with_its_application(
    analysts: Analysts, customer: int
) -> None:
    expected = Counter(
        (
            *(principal["id"], principal["displayName"], kind, one["keyId"], one["displayName"]),
            *(parse_time(one[end]) for end in ("startDateTime", "endDateTime")),
        )
        for principal in get_tenant(analysts, customer).iterate_live("service_principals")
        for kind, name in (("certificate", "keyCredentials"), ("secret", "passwordCredentials"))
        for one in principal[name]
    )
    columns = (
        *("service_principal_id", "application_name", "kind", "credential_id", "name"),
        *("starts_at", "ends_at"),
    )
    found = analysts.ask(f"{CREDENTIALS} where connection_id = {customer}")
    assert Counter(tuple(row[name] for name in columns) for row in found) == expected
    assert {row["kind"] for row in found} == ({"certificate", "secret"} if customer == 1 else set())


def test_whose_application_it_is_is_told_as_of_service_principals(analysts: Analysts) -> None:
    told = analysts.ask(
        "select k.is_microsoft, k.is_foreign, s.is_microsoft as microsoft, s.is_foreign as foreign_"
        " from analytics.application_credentials k join analytics.service_principals s"
        " on s.connection_id = k.connection_id and s.id = k.service_principal_id"
    )
    assert told
    for row in told:
        assert (row["is_microsoft"], row["is_foreign"]) == (row["microsoft"], row["foreign_"])


def find_principal(world: Analysts) -> str:
    """A service principal of Contoso's own with a secret."""
    found: str = next(
        one["id"]
        for one in world.contoso.iterate_live("service_principals")
        if one["passwordCredentials"] and one["appOwnerOrganizationId"] == world.contoso.tenant_id
    )
    return found


def read_after(world: Analysts, assignment: str, view: str, column: str) -> list[Row]:
    """Rows about one service principal after a change of its columns."""
    where = f"where {column} = '{find_principal(world)}'"
    change = f"update directory.service_principals set {assignment} where id = "
    return world.ask_after(f"{change} '{find_principal(world)}'", f"select * from {view} {where}")


def read_with_secrets(world: Analysts, secrets: object, view: str, column: str) -> list[Row]:
    sent = json.dumps(secrets)
    assignment = f"key_credentials = null, password_credentials = '{sent}'"
    return read_after(world, assignment, view, column)


@pytest.mark.parametrize(
    ("sent", "shown", "expired"),
    [
        ("2020-02-29T12:00:00Z", "2020-02-29T12:00:00+00:00", True),
        ("2020-02-29T12:00:00.1234567Z", "2020-02-29T12:00:00.123457+00:00", True),
        ("2999-12-31T23:59:59+02:00", "2999-12-31T21:59:59+00:00", False),
        (None, None, False),
        ("2999", None, False),
        ("", None, False),
        ("2020-02-30T00:00:00Z", None, False),
        ("2020-13-01T00:00:00Z", None, False),
        ("2020-01-01T25:00:00Z", None, False),
        ("0000-01-01T00:00:00Z", None, False),
        ("2020-01-01T00:00:00", None, False),
        ("infinity", None, False),
    ],
)
def test_an_end_that_is_none_is_null_and_has_not_passed(
    analysts: Analysts, sent: str | None, shown: str | None, expired: bool
) -> None:
    secret = {"keyId": "k", "displayName": None, "startDateTime": sent, "endDateTime": sent}
    (row,) = read_with_secrets(analysts, [secret], *OF_CREDENTIALS)
    assert row["ends_at"] == (shown and datetime.fromisoformat(shown))
    assert row["starts_at"] == row["ends_at"]
    assert row["is_expired"] is expired


@pytest.mark.parametrize(
    ("ends", "told"),
    [
        (("2019-01-01T00:00:00Z", "2020-01-01T00:00:00Z"), "of its own since 2020-01-01"),
        (("2020", "2020-01-01T00:00:00Z"), None),
        ((None, "2020-01-01T00:00:00Z"), None),
        (("2999-01-01T00:00:00Z", "2020-01-01T00:00:00Z"), None),
    ],
)
def test_an_application_is_told_of_once_none_of_its_credentials_can_be_valid(
    analysts: Analysts, ends: tuple[str | None, ...], told: str | None
) -> None:
    secrets = [{"keyId": "k", "endDateTime": end} for end in ends]
    found = read_with_secrets(analysts, secrets, "analytics.findings", "object_id")
    sentences = {
        one["code"]: one["sentence"].partition(" has no valid secret or certificate ")[2]
        for one in found
    }
    assert sentences.get("ending_credential") == told


def test_a_deleted_application_has_none(analysts: Analysts) -> None:
    view, column = OF_CREDENTIALS
    where = f"where {column} = '{find_principal(analysts)}'"
    assert analysts.ask(f"select * from {view} {where}")
    assert read_after(analysts, "deleted_at = now()", *OF_CREDENTIALS) == []


# ---- what applications may do for users


def test_a_permission_that_a_grant_names_twice_is_one_row(analysts: Analysts) -> None:
    of = "select id, permission from analytics.permission_grants order by connection_id, 1, 2"
    twice = "update directory.oauth2_permission_grants set scopes = scopes || scopes"
    assert analysts.ask(of)
    assert analysts.ask_after(twice, of) == analysts.ask(of)


@pytest.mark.parametrize("of_graph", [True, False])
def test_a_permission_is_privileged_if_it_is_one_of_microsofts_apis(
    analysts: Analysts, *, of_graph: bool
) -> None:
    """Another application may call a permission of its own alike."""
    own = find_principal(analysts)
    graph = analysts.contoso.service_principals.id_at(0)
    grant = f"""
        update directory.oauth2_permission_grants
           set client_id = '{own}', resource_id = '{graph if of_graph else own}',
               scopes = '{{Mail.Read}}', consent_type = 'AllPrincipals', principal_id = null
         where connection_id = 1"""
    found = analysts.ask_after(
        grant,
        "select object_id from analytics.findings"
        " where code = 'consent_for_all_with_privileged_permission' and connection_id = 1",
    )
    assert {row["object_id"] for row in found} == ({own} if of_graph else set())


def test_an_odd_id_of_an_app_role_fails_no_finding(analysts: Analysts) -> None:
    odd = json.dumps([{"id": one, "value": "Mail.Read"} for one in ("x", None, 7)])
    change = f"update directory.service_principals set app_roles = app_roles || '{odd}'"
    of = "select connection_id, code, object_id from analytics.findings order by 1, 2, 3"
    assert analysts.ask_after(change, of) == analysts.ask(of)


# ---- what roles allow


@pytest.mark.parametrize(
    ("reason", "known"), [("Graph refuses it", False), ("the tenant has no licence for this", True)]
)
def test_activations_are_known_unless_nobody_could_tell_them(
    analysts: Analysts, reason: str, *, known: bool
) -> None:
    of = "select connection_id, state_known from analytics.effective_role_holders"
    assert {row["state_known"] for row in analysts.ask(of)} == {True}
    refuse = f"""
        update sync.streams set phase = 'refused', fresh_at = null, reason = '{reason}'
         where resource = 'role_assignment_schedule_instances' and connection_id = 1"""
    told = {tuple(row.values()) for row in analysts.ask_after(refuse, of)}
    assert told == {(1, known), (2, True)}


@pytest.mark.parametrize("customer", [1, 2])
def test_each_action_of_each_role_is_a_row(analysts: Analysts, customer: int) -> None:
    expected = Counter(
        (role["id"], role["displayName"], role["isBuiltIn"], role["isEnabled"], action, None)
        for role in get_tenant(analysts, customer).iterate_live("role_definitions")
        for one in role["rolePermissions"]
        for action in one["allowedResourceActions"]
    )
    columns = (
        *("role_definition_id", "role_name", "is_built_in", "is_enabled", "action", "condition"),
    )
    found = analysts.ask(f"{ROLES} where connection_id = {customer}")
    assert Counter(tuple(row[name] for name in columns) for row in found) == expected
    assert not any(row["is_privileged_action"] for row in found)


def allow(world: Analysts, *permissions: object, further: str = "") -> list[Row]:
    """What a role of Contoso's own allows by these permissions."""
    change = (
        "update directory.role_definitions set is_built_in = false, role_permissions ="
        f" '{json.dumps(permissions)}' where id = '{world.ids['role']}'"
    )
    of = f"{ROLES} where role_definition_id = '{world.ids['role']}' order by action"
    return world.ask_after(f"{change}; {further}" if further else change, of)


def test_an_action_is_privileged_by_the_list_that_counts_for_roles(analysts: Analysts) -> None:
    both = {"allowedResourceActions": [RESET, READ], "condition": None}
    told = [(row["action"], row["is_privileged_action"]) for row in allow(analysts, both)]
    assert told == [(RESET, True), (READ, False)]
    left_out = (
        f"update analytics.privileged_actions set is_counted = false where action = '{RESET}'"
    )
    rows = allow(analysts, both, further=left_out)
    assert [row["is_privileged_action"] for row in rows] == [False, False]


def test_an_action_has_its_conditions_unless_it_is_also_allowed_without(analysts: Analysts) -> None:
    def permit(action: str, condition: str | None) -> object:
        return {"allowedResourceActions": [action], "condition": condition}

    rows = allow(
        analysts,
        *(permit(RESET, one) for one in ("$SubjectIsOwner", "$ResourceIsSelf", "$ResourceIsSelf")),
        *(permit(READ, one) for one in ("$ResourceIsSelf", None)),
    )
    assert [(row["action"], row["condition"]) for row in rows] == [
        (RESET, "$ResourceIsSelf or $SubjectIsOwner"),
        (READ, None),
    ]


def test_odd_permissions_of_graph_fail_no_query(analysts: Analysts) -> None:
    rows = allow(
        analysts,
        *(7, None, "x", [RESET], {}, {"allowedResourceActions": None}),
        {"allowedResourceActions": [7, None, {"a": 1}, READ], "condition": None},
        {"allowedResourceActions": RESET, "condition": "$ResourceIsSelf"},
    )
    assert [(row["action"], row["condition"]) for row in rows] == [
        (RESET, "$ResourceIsSelf"),
        (READ, None),
    ]


def test_a_deleted_role_allows_nothing(analysts: Analysts) -> None:
    role = analysts.ids["role"]
    of = f"{ROLES} where role_definition_id = '{role}'"
    delete = f"update directory.role_definitions set deleted_at = now() where id = '{role}'"
    assert analysts.ask(of)
    assert analysts.ask_after(delete, of) == []
