"""Faults that are switched on and off while the sandbox serves: over HTTP and from a shell."""

import re
import subprocess
import sys

import httpx
import pytest
from click.testing import CliRunner

from sandbox.tenant import BROKEN, EXPIRIES, TRANSIENT, Client, Nango, Server, Tenant
from sandbox.tenant.cli.commands import sandbox
from sandbox.tenant.demo import build_demo_nango, build_sized_nango, build_story_nango


@pytest.fixture
def nango() -> Nango:
    nango = Nango()
    nango.add_connection("c1", Tenant(users=5, groups=2))
    return nango


def test_faults_are_switched_on_and_off_over_http(client: Client, nango: Nango) -> None:
    on = client.http.post("/sandbox/faults", json={"rate": 1, "seed": 3, "kinds": ["504"]})
    assert (on.json()["seed"], on.json()["kinds"]) == (3, ["504"])
    assert client.get("users").status_code == 504
    assert client.http.get("/sandbox/faults").json()["hits"] == {"504": 1}
    off = client.http.post("/sandbox/faults", json={"rate": 0})
    assert off.json() == {"rate": 0.0, "hits": {}}
    assert client.get("users").status_code == 200
    assert nango.faults is None


def test_kinds_are_named_one_by_one_or_in_sets(client: Client, nango: Nango) -> None:
    client.http.post("/sandbox/faults", json={"rate": 0.5})
    assert nango.faults
    assert set(nango.faults.kinds) == TRANSIENT | EXPIRIES
    client.http.post("/sandbox/faults", json={"rate": 0.5, "kinds": ["broken", "cut"]})
    assert set(nango.faults.kinds) == BROKEN | {"cut"}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"rate": 2}, "'rate' has to be a number from 0 to 1."),
        ({"rate": True}, "'rate' has to be a number from 0 to 1."),
        ({"kinds": "cut"}, "'kinds' has to be a list of names."),
        ({"kinds": ["599"]}, "No such faults: 599."),
        ({"colour": 1}, "'colour' is not known."),
        ({"stall": 9999}, "'stall' has to be a number of seconds up to 600."),
    ],
)
def test_what_makes_no_sense_is_refused(
    client: Client, asked: dict[str, object], message: str
) -> None:
    refused = client.http.post("/sandbox/faults", json=asked)
    assert refused.status_code == 400
    assert refused.json()["error"]["message"].startswith(message)


def test_faults_are_switched_from_a_shell(server: Server, nango: Nango) -> None:
    command = ["faults", "0.25", "--seed", "9", "--kind", "cut", "--url", server.url]
    done = CliRunner().invoke(sandbox, command)
    assert (done.exit_code, done.output) == (0, "rate  0.25\nkind  cut\n")
    assert nango.faults
    assert nango.faults.seed == 9
    off = CliRunner().invoke(sandbox, ["faults", "0", "--url", server.url])
    assert (off.exit_code, off.output) == (0, "rate  0.0\n")
    assert nango.faults is None


def test_a_sandbox_is_started_with_faults_and_a_limit() -> None:
    words = ["--port", "0", "--users", "5", "--faults", "1", "--rate-limit", "2", "--enforce"]
    process = subprocess.Popen(
        [sys.executable, "-m", "sandbox.tenant", *words], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout
        ready = re.fullmatch(r"sandbox ready url=(\S+) key=(\S+)\n", process.stdout.readline())
        assert ready
        key = {"authorization": f"Bearer {ready[2]}"}
        with httpx.Client(base_url=ready[1], headers=key, trust_env=False) as http:
            assert [http.get("/connections").status_code for _ in range(3)] == [200, 200, 429]
            assert http.get("/sandbox/faults").json()["rate"] == 1
        process.terminate()
        assert process.wait(timeout=10) == 0


# ---- what happens to one customer


@pytest.fixture
def customers(nango: Nango) -> Nango:
    """Three, two of them of one name."""
    nango.connections[0].tenant.display_name = "Contoso"
    nango.add_connection("c2-a", Tenant(seed=2, users=400, groups=6, display_name="Fabrikam"))
    nango.add_connection("c2-b", Tenant(seed=3, users=9, display_name="Contoso"))
    return nango


def said(server: Server, *words: str) -> tuple[int, str]:
    result = CliRunner().invoke(sandbox, [*words, "--url", server.url])
    return result.exit_code, result.output


def test_a_licence_ends_and_is_bought_again(server: Server, customers: Nango) -> None:
    options = customers.connections[1].tenant.options
    code, text = said(server, "unlicense", "Fabrikam")
    assert (code, options.licences) == (0, set())
    assert text == "Fabrikam: no licence is left; 'sandbox license Fabrikam' brings them back\n"
    assert "no licence" in said(server, "customers")[1]
    assert said(server, "license", "Fabrikam") == (0, "Fabrikam: licensed\n")
    assert options.licences == {"p1", "p2"}


def test_the_demo_has_what_only_some_tenants_have() -> None:
    for nango in (build_demo_nango(), build_sized_nango((50,))):
        for connection in nango.connections:
            tenant = connection.tenant
            assert all(shelf.total for shelf in tenant.further.values())
            assert list(tenant.iterate_live("managers"))


def test_a_story_is_served_alone() -> None:
    (connection,) = build_story_nango().connections
    assert connection.tenant.display_name == "Alpine"
    refused = CliRunner().invoke(sandbox, ["serve", "--story", "--hostile"])
    assert "use only one of" in refused.output
    assert refused.exit_code == 2


def test_many_users_are_deleted_and_return(server: Server, customers: Nango) -> None:
    fabrikam = customers.connections[1].tenant
    assert said(server, "delete", "fabrikam", "60%") == (
        0,
        "Fabrikam: 240 users deleted, 160 left\n",
    )
    assert said(server, "delete", "c2-a", "1") == (0, "Fabrikam: 1 users deleted, 159 left\n")
    assert fabrikam.truth()["users"].count == 159
    assert said(server, "restore", "Fabrikam") == (0, "Fabrikam: 241 users restored\n")
    assert fabrikam.truth() == Tenant(seed=2, users=400, groups=6).truth()
    assert said(server, "delete", "c2-a", "9999", "--resource", "groups")[0] == 0
    assert fabrikam.truth()["groups"].count == 0
    assert said(server, "delete", "c2-a", "2", "--resource", "sites")[0] == 0
    assert fabrikam.truth()["sites"].count == 10


def test_consent_is_revoked_and_given(server: Server, client: Client, nango: Nango) -> None:
    assert said(server, "revoke", "c1")[0] == 0
    assert client.get("users").status_code == 400
    assert "consent revoked" in said(server, "customers")[1]
    assert said(server, "consent", "c1")[0] == 0
    assert client.get("users").status_code == 200
    assert nango.connections[0].refresh.attempts == 1


def test_a_permission_is_refused_and_granted(server: Server, client: Client) -> None:
    assert said(server, "refuse", "c1", "groups")[0] == 0
    assert [client.get(one).status_code for one in ("groups", "users")] == [403, 200]
    assert "groups refused" in said(server, "customers")[1]
    assert said(server, "grant", "c1", "groups")[0] == 0
    assert client.get("groups").status_code == 200


def test_a_connection_is_deleted_and_made_again(
    server: Server, client: Client, customers: Nango
) -> None:
    assert said(server, "disconnect", "fabrikam")[0] == 0
    assert said(server, "disconnect", "fabrikam")[0] == 0
    assert [one.connection_id for one in customers.connections] == ["c1", "c2-b"]
    listed = client.http.get("/connections").json()["connections"]
    assert {one["connection_id"] for one in listed} == {"c1", "c2-b"}
    assert "disconnected" in said(server, "customers")[1]
    assert said(server, "connect", "fabrikam")[0] == 0
    assert customers.find("c2-a") is not None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("delete", "contoso", "1"), "'contoso' may mean c1, c2-b."),
        (("delete", "c2", "1"), "'c2' may mean c2-a, c2-b."),
        (("revoke", "nobody"), "There is no connection nobody; of: Contoso, Fabrikam, Contoso."),
        (("delete", "c1", "0"), "neither a number such as 150 nor a share such as 60%"),
        (("delete", "c1", "many"), "neither a number such as 150 nor a share such as 60%"),
        (("delete", "c1", "120%"), "more than there is"),
        (("refuse", "c1", "mail"), "'mail' is not one of"),
    ],
)
def test_a_wish_that_makes_no_sense_is_refused(
    server: Server, customers: Nango, words: tuple[str, ...], message: str
) -> None:
    before = [one.tenant.truth() for one in customers.connections]
    code, text = said(server, *words)
    assert code != 0
    assert message in text
    assert [one.tenant.truth() for one in customers.connections] == before


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("delete", {"connection_id": "c1"}),
        ("delete", {"connection_id": "c1", "n": 1, "percent": 1}),
        ("delete", {"connection_id": "c1", "n": True}),
        ("delete", {"connection_id": "c1", "percent": 101}),
        ("delete", {"connection_id": "c1", "n": 1, "resource": "mail"}),
        ("delete", {"n": 1}),
        ("restore", {"connection_id": "c1", "resource": "sites"}),
        ("permit", {"connection_id": "c1", "resource": "sites"}),
        ("consent", {"connection_id": "c1", "given": "no"}),
        ("connect", {"connection_id": "c1"}),
    ],
)
def test_a_body_that_makes_no_sense_is_refused(
    client: Client, path: str, asked: dict[str, object]
) -> None:
    assert client.http.post(f"/sandbox/{path}", json=asked).status_code == 400


def test_the_help_says_how_each_state_is_seen() -> None:
    text = CliRunner().invoke(sandbox, ["--help"]).output
    assert all(state in text for state in ("held", "broken", "refused", "retired", "halted"))
    assert "\\b" not in text
