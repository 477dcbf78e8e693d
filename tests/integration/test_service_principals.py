"""Service principals: exact, named wherever they hold something, and without their secrets."""

import json
from random import Random
from typing import Any

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from models.run import RunState
from sandbox.tenant import KindCounts, Request, Response, Tenant
from sandbox.tenant.directory.templates.applications import (
    MICROSOFT,
    SECRET_MARKS,
    make_key,
    make_password,
)
from tests.support.mirror import (
    MakeMirror,
    Mirror,
    assert_exact,
    fetch_scalar,
    read_events,
    read_last_seq,
    read_live_rows,
)
from worker.store.engine import Database

NAME = "service_principals"
KINDS = KindCounts(service_principals=90, app_roles=9)
FORBIDDEN = (*SECRET_MARKS, "secretText", "customKeyIdentifier")


def tenant_with_principals() -> Tenant:
    return Tenant(seed=33, users=40, groups=6, sites=3, kinds=KINDS)


@pytest.fixture
def mirror(make_mirror: MakeMirror) -> Mirror:
    made = make_mirror(tenant_with_principals())
    assert made.sync().state is RunState.SUCCEEDED
    return made


def list_own(mirror: Mirror) -> list[str]:
    """Ids of those that have both certificates and secrets."""
    return [
        one["id"]
        for one in mirror.tenant.iterate_live(NAME)
        if one["keyCredentials"] and one["passwordCredentials"]
    ]


def rows(mirror: Mirror, statement: str) -> list[dict[str, Any]]:
    with mirror.database.open_transaction() as db:
        return [dict(row) for row in db.execute(text(statement)).mappings()]


def test_all_of_them_arrive_and_change_by_delta(mirror: Mirror) -> None:
    tenant = mirror.tenant
    assert_exact(mirror.database, tenant)
    assert fetch_scalar(mirror.database, f"select count(*) from directory.{NAME}") == 90
    mirror.nango.calls.reset()
    changed, gone, *_ = list_own(mirror)
    mark = read_last_seq(mirror.database)
    tenant.update_object(NAME, changed, displayName="Renamed")
    tenant.delete_object(NAME, gone)
    new = tenant.create_object(NAME, displayName="New")
    mirror.sync()
    found = {e["object_id"]: e for e in read_events(mirror.database, after=mark)}
    changes = {key: e["change"] for key, e in found.items() if e["resource"] == NAME}
    assert changes == {changed: "updated", gone: "deleted", new: "created"}
    assert found[changed]["changed"] == ["display_name"]
    assert mirror.nango.calls.graph["servicePrincipals"] == 0, "none was listed again"
    assert_exact(mirror.database, tenant)
    tenant.mutate(60)
    mirror.sync()
    mirror.sync(full=True)
    assert_exact(mirror.database, tenant)


def test_without_delta_they_are_listed(make_mirror: MakeMirror) -> None:
    tenant = tenant_with_principals()
    tenant.options.no_delta = True
    mirror = make_mirror(tenant)
    for _ in range(2):
        assert mirror.sync().state is RunState.SUCCEEDED
        assert_exact(mirror.database, tenant)
        tenant.mutate(40)
    mode = f"select mode from sync.streams where resource = '{NAME}'"
    assert fetch_scalar(mirror.database, mode) == "list_only"


# ---- secrets


TEXT_OF_ALL = """
    select format('%I.%I', n.nspname, c.relname)
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where c.relkind in ('r', 'v', 'm')
       and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
"""


def find_texts(database: Database, *wanted: str) -> dict[str, int]:
    """In which tables and views of every schema one of the texts stands, as text or as bytes."""
    found = {}
    forms = [*wanted, *(one.encode().hex() for one in wanted)]
    with database.open_transaction() as db:
        for name in db.execute(text(TEXT_OF_ALL)).scalars().all():
            count = f"select count(*) from {name} t where t::text like any(:forms)"
            number = db.execute(text(count), {"forms": [f"%{one}%" for one in forms]}).scalar_one()
            if number:
                found[name] = number
    return found


def spoil(mirror: Mirror, spoilt: str, unreadable: str) -> None:
    """Graph sends one whose credentials hold odd values, and one whose id cannot be read."""
    rng = Random(5)
    odd = {
        "keyCredentials": "leaked-key",
        "passwordCredentials": [
            {**make_password(rng), "displayName": "half a \\ud800 letter", "hint": 7},
            {**make_password(rng), "endDateTime": ["leaked-hint"]},
            None,
        ],
    }
    live = {one["id"]: dict(one) for one in mirror.tenant.iterate_live(NAME)}
    live[spoilt] |= odd
    live[unreadable]["id"] += "\0"

    def answer(request: Request) -> Response | None:
        last = request.path.rsplit("/", 1)[-1]
        if last == spoilt:
            content = json.dumps(live[spoilt])
        elif last == "servicePrincipals":
            content = json.dumps({"value": list(live.values())})
        else:
            return None
        headers = {"content-type": "application/json", "request-id": "simulated"}
        return Response(200, content.replace("\\\\ud800", "\\ud800").encode(), headers)

    mirror.nango.before_graph = answer


def test_no_secret_hint_key_or_thumbprint_is_stored_told_or_logged(mirror: Mirror) -> None:
    """Whatever comes of an object: created, changed, odd, malformed, deleted or restored."""
    tenant, rng = mirror.tenant, Random(3)
    with capture_logs() as logs:
        changed, gone, spoilt, unreadable, *_ = list_own(mirror)
        tenant.update_object(
            NAME, changed, keyCredentials=[make_key(rng)], passwordCredentials=[make_password(rng)]
        )
        tenant.create_object(NAME, passwordCredentials=[make_password(rng, "named secret")])
        tenant.delete_object(NAME, gone)
        mirror.sync()
        spoil(mirror, spoilt, unreadable)
        assert mirror.sync(NAME, full=True).state is RunState.PARTIAL
        quarantined = f"select count(*) from sync.quarantine where resource = '{NAME}'"
        assert fetch_scalar(mirror.database, quarantined) > 0
    (kept,) = (row for row in read_live_rows(mirror.database, NAME) if row["id"] == spoilt)
    assert kept["key_credentials"] is None
    assert [one["endDateTime"] is None for one in kept["password_credentials"]] == [False, True]
    assert find_texts(mirror.database, *FORBIDDEN) == {}
    assert not [
        line for line in logs if any(one in json.dumps(line, default=str) for one in FORBIDDEN)
    ]
    where = {name.partition("_20")[0] for name in find_texts(mirror.database, "named secret")}
    expected = {f"directory.{NAME}", "analytics.application_credentials", "events.change_events"}
    assert where == expected, "the search finds texts"


def test_a_credential_has_its_id_name_begin_and_end_and_no_more(mirror: Mirror) -> None:
    kept: set[tuple[str, ...]] = set()
    for row in read_live_rows(mirror.database, NAME):
        for one in (*row["key_credentials"], *row["password_credentials"]):
            kept.add(tuple(sorted(one)))
    assert kept == {("displayName", "endDateTime", "keyId", "startDateTime")}


# ---- names


def test_members_and_holders_of_roles_that_are_service_principals_have_names(
    mirror: Mirror,
) -> None:
    tenant = mirror.tenant
    one, other = list_own(mirror)[:2]
    group = next(tenant.iterate_live("groups"))["id"]
    role = tenant.create_role_definition(displayName="Keeper")
    for principal in (one, other):
        tenant.assign_role(role, principal)
        tenant.add_member(group, principal, "servicePrincipal")
    tenant.update_object(NAME, one, displayName="Ledger export")
    mirror.sync()
    held = (
        "select principal_id, principal_name, principal_type from analytics.role_assignments"
        " where role_name = 'Keeper'"
    )
    found = {row["principal_id"]: row for row in rows(mirror, held)}
    assert found.keys() == {one, other}
    assert found[one]["principal_name"] == "Ledger export"
    assert found[one]["principal_type"] == "service_principal"
    members = (
        "select member_name, member_type from analytics.group_members"
        f" where group_id = '{group}' and member_id = '{one}'"
    )
    assert rows(mirror, members) == [
        {"member_name": "Ledger export", "member_type": "service_principal"}
    ]
    with mirror.database.open_transaction() as db:
        db.execute(text("update directory.group_members set member_type = 'other'"))
    assert rows(mirror, members)[0]["member_type"] == "service_principal"
    tenant.delete_object(NAME, other)
    mirror.sync()
    assert [row["principal_id"] for row in rows(mirror, held)] == [one], "the deleted hold none"


def test_the_view_tells_whose_applications_they_are(mirror: Mirror) -> None:
    owners = [one.get("appOwnerOrganizationId") for one in mirror.tenant.iterate_live(NAME)]
    own = mirror.tenant.tenant_id
    expected = {
        "microsoft": owners.count(MICROSOFT),
        "own": sum(one in (own, None) for one in owners),
        "foreign": sum(one not in (own, None, MICROSOFT) for one in owners),
    }
    statement = (
        f"select count(*) filter (where is_microsoft) as microsoft,"
        " count(*) filter (where is_foreign) as foreign,"
        " count(*) filter (where not is_foreign and not is_microsoft) as own"
        f" from analytics.{NAME}"
    )
    assert rows(mirror, statement) == [expected]
    assert all(expected.values())
    credentials = f"select sum(secret_count), sum(certificate_count) from analytics.{NAME}"
    with mirror.database.open_transaction() as db:
        secrets, certificates = db.execute(text(credentials)).one()
    live = list(mirror.tenant.iterate_live(NAME))
    assert secrets == sum(len(one["passwordCredentials"]) for one in live) > 0
    assert certificates == sum(len(one["keyCredentials"]) for one in live) > 0
