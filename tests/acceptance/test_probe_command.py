"""`tenant-mirror probe` as people meet it: what it tells and what it keeps to itself."""

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result

from models.resources import RESOURCES
from sandbox.tenant import Nango, Request, Response, Server, Tenant, TenantOptions
from worker.core.errors import NotFound
from worker.ops.cli import cli
from worker.store.engine import Database
from worker.sync.connections.discover import discover
from worker.sync.runtime import Runtime

Probe = Callable[..., Result]

NAME = "Zanzibar Quux"
CONNECTION = "zanzibar-connection-77"
GUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)


def a_tenant(options: TenantOptions | None = None) -> Tenant:
    """A tenant whose every word would be noticed."""
    tenant = Tenant(
        seed=47,
        users=40,
        groups=12,
        sites=6,
        display_name=NAME,
        domain="zanzibar-quux.example",
        options=options,
    )
    tenant.create_user(displayName="Xylophia Qwertz", department="Vexillology")
    tenant.create_group(displayName="Quibbleworth", description="Borborygmus")
    tenant.create_role_definition(displayName="Zymurgist")
    return tenant


@pytest.fixture
def environment(database_url: str, nango: Nango, nango_server: Server) -> dict[str, str]:
    return {
        "DATABASE_URL": database_url,
        "NANGO_HOST": nango_server.url,
        "NANGO_SECRET_KEY": nango.key,
    }


@pytest.fixture
def probe(environment: dict[str, str]) -> Probe:
    """Runs the command in this process, which is quicker."""

    def call(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ["probe", *arguments], env=environment)

    return call


@pytest.fixture
def enrolled(runtime: Runtime, nango: Nango) -> Tenant:
    tenant = a_tenant()
    nango.add_connection(CONNECTION, tenant)
    discover(runtime.database, runtime.nango, runtime.settings)
    nango.calls.reset()
    return tenant


def words(value: Any) -> Iterator[str]:
    """Every text in a value, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from words(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from words(inner)


def telling(tenant: Tenant) -> set[str]:
    """What stands in the tenant and nowhere else: not `Member`, `Unified`, `Private`, ..."""
    found = {word for name in RESOURCES for row in tenant.iterate_live(name) for word in words(row)}
    return {word for word in found if len(word) > 4 and re.search(r"[\d@ ./_-]|[^\x00-\x7f]", word)}


OURS = ("Xylophia", "Vexillology", "Quibbleworth", "Borborygmus", "Zymurgist")


def assert_nothing_leaks(text: str, tenant: Tenant, nango: Nango) -> None:
    assert text
    assert not GUID.search(text)
    for part in ("zanzibar", "quux", "http", "@", "token=", nango.key, "127.0.0.1", "graph.m"):
        assert part not in text.lower(), part
    for word in (*OURS, tenant.tenant_id, *telling(tenant)):
        assert word not in text, word


def test_a_tenant_that_is_as_assumed(probe: Probe, enrolled: Tenant, nango: Nango) -> None:
    shown = probe(CONNECTION)
    assert shown.exit_code == 0, shown.output
    assert "connection 1: it can be mirrored" in shown.stdout
    assert "it can be shared" in shown.stdout
    assert nango.calls.total <= 15
    told = probe("1", "--json")
    assert told.exit_code == 0
    report = json.loads(told.stdout)
    assert report["connection"] == 1
    assert report["can_be_mirrored"] is True
    assert {finding["verdict"] for finding in report["findings"]} <= {
        "holds",
        "does not hold",
        "unknown",
    }
    assert all(finding["seen"] and finding["does"] for finding in report["findings"])
    users = next(call for call in report["calls"] if call["asked"] == "users")
    assert (users["status"], users["rows"]) == (200, 41)
    assert users["bytes_a_row"] > 100
    for output in (shown.output, told.output):
        assert_nothing_leaks(output, enrolled, nango)


def test_what_the_customer_has_switched_off_is_not_asked_for(
    probe: Probe, runtime: Runtime, nango: Nango
) -> None:
    unwanted = {"tenant_mirror": {"resources": {"sites": False}}}
    nango.add_connection(CONNECTION, a_tenant(), metadata=unwanted)
    discover(runtime.database, runtime.nango, runtime.settings)
    nango.calls.reset()
    report = json.loads(probe("1", "--json").stdout)
    assert report["can_be_mirrored"] is True
    assert not [one["name"] for one in report["findings"] if "sites" in one["name"]]
    assert not [path for path in nango.calls.graph if "sites" in path]


def graph_error(status: int, code: str = NAME, **headers: str) -> Response:
    """An error that names the tenant wherever it can."""
    inner = {"code": NAME, "message": NAME, "request-id": NAME, "innerError": {"code": NAME}}
    body = {"error": {"code": code, "message": f"{NAME} may not", "innerError": inner}}
    named = {
        "content-type": f"application/json; {NAME}",
        "request-id": NAME,
        "x-ms-ags-diagnostic": NAME,
        "x-ms-throttle-scope": f"Tenant_Application/ReadWrite/{NAME}",
        "x-ms-resource-unit": NAME,
        "x-ratelimit-limit": NAME,
        "location": f"https://{NAME.replace(' ', '')}.example/",
    }
    return Response(status, json.dumps(body).encode(), named | headers)


def nango_error(status: int, code: str) -> Response:
    body = {"error": {"code": code, "message": NAME}, "code": NAME}
    return Response(status, json.dumps(body).encode(), {"content-type": "application/json"})


def foreign_links() -> Response:
    link = "https://zanzibar.example/v1.0/users?$skiptoken=quux"
    body = {"value": [], "@odata.nextLink": link, "@odata.context": NAME, NAME: NAME}
    return Response(200, json.dumps(body).encode(), {"request-id": NAME})


def strange_items() -> Response:
    items = [{"id": NAME, "status": NAME, "headers": {NAME: NAME}, "body": NAME}, NAME]
    return Response(200, json.dumps({"responses": items}).encode(), {"request-id": NAME})


def strange_values() -> Response:
    body = {"value": [{"id": NAME, "displayName": {NAME: NAME}}, NAME]}
    return Response(200, json.dumps(body).encode(), {"request-id": NAME})


@pytest.mark.parametrize(
    ("response", "code"),
    [
        (graph_error(400), 1),
        (graph_error(401), 1),
        (graph_error(403), 1),
        (graph_error(404), 1),
        (graph_error(410), 1),
        (graph_error(302), 1),
        (graph_error(501), 1),
        (graph_error(429), 3),
        (graph_error(503, **{"retry-after": NAME}), 3),
        (nango_error(400, "server_error"), 1),
        (nango_error(400, "invalid_Zanzibar Quux"), 1),
        (nango_error(400, "invalid_zanzibar"), 1),
        (nango_error(400, "zanzibar"), 1),
        (nango_error(500, "zanzibar"), 3),
        (nango_error(402, "plan_limit"), 2),
        (Response(200, f"<html>{NAME}".encode(), {"content-type": "text/html"}), 3),
        (Response(200, NAME.encode(), {"request-id": NAME}), 1),
        (foreign_links(), 1),
        (strange_items(), 1),
        (strange_values(), 1),
    ],
)
def test_an_answer_that_names_the_tenant_is_told_without_the_name(
    probe: Probe, enrolled: Tenant, nango: Nango, response: Response, code: int
) -> None:
    """Everywhere but for the organization, and then everywhere."""

    def elsewhere(request: Request) -> Response | None:
        return None if request.path.endswith("organization") else response

    for hook in (elsewhere, lambda _: response):
        nango.before_graph = hook
        shown, told = probe("1"), probe("1", "--json")
        if hook is elsewhere:
            assert shown.exit_code == told.exit_code == code, shown.output
        for done in (shown, told):
            assert isinstance(done.exception, SystemExit)
            assert_nothing_leaks(done.output, enrolled, nango)
        assert json.loads(told.stdout)["findings"]


def test_a_code_of_graphs_is_told(probe: Probe, enrolled: Tenant, nango: Nango) -> None:
    enrolled.options.refused_resources = {"sites"}
    done = probe("1")
    assert done.exit_code == 1
    assert "status 403 Authorization_RequestDenied" in done.stdout
    assert "Sites.Read.All" in done.stdout
    assert "cannot be mirrored completely; does not hold: sites are found by search" in done.stdout
    assert_nothing_leaks(done.output, enrolled, nango)


def test_it_writes_nothing_and_takes_no_lease(
    probe: Probe, enrolled: Tenant, database: Database, database_url: str
) -> None:
    """Run beside a process that holds the lease, on a database that refuses every write."""
    name = database_url.rsplit("/", 1)[1]
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute(
            "insert into sync.leases (connection_id, holder, expires_at) values (1, 'other', "
            "now() + interval '1 hour') on conflict (connection_id) do update "
            "set holder = excluded.holder, expires_at = excluded.expires_at"
        )
        admin.execute(f"alter database {name} set default_transaction_read_only = on")
    with (
        psycopg.connect(database_url) as refusing,
        pytest.raises(psycopg.errors.ReadOnlySqlTransaction),
    ):
        refusing.execute("update sync.leases set holder = null")
    done = probe("1")
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("status", ["paused", "broken", "duplicate"])
def test_a_connection_that_is_not_synced_is_probed_too(
    probe: Probe, enrolled: Tenant, database_url: str, status: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute("update sync.connections set status = %s", [status])
    assert probe(CONNECTION).exit_code == 0


def test_a_retired_connection_says_that_nango_does_not_know_it(
    probe: Probe, enrolled: Tenant, runtime: Runtime, nango: Nango
) -> None:
    nango.remove_connection(CONNECTION)
    discover(runtime.database, runtime.nango, runtime.settings)
    done = probe("1")
    assert done.exit_code == 1
    assert "unknown to Nango" in done.stdout
    assert_nothing_leaks(done.output, enrolled, nango)


def test_a_connection_that_there_is_not(probe: Probe) -> None:
    assert isinstance(probe("77").exception, NotFound)


def test_help_teaches(probe: Probe) -> None:
    done = probe("--help")
    for part in ("at most 16 calls", "Examples", "--json", "Exit codes: 0", "shared"):
        assert part in done.stdout


def test_a_person_who_watches_sees_how_far_it_is(
    environment: dict[str, str], enrolled: Tenant
) -> None:
    ours, theirs = pty.openpty()
    base = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    done = subprocess.run(
        [sys.executable, "-c", "from worker.ops.cli import main; main()", "probe", "1", "--json"],
        env=base | environment,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        timeout=60,
        check=True,
    )
    os.close(theirs)
    seen = os.read(ours, 65_536).decode()
    os.close(ours)
    assert "asking organization (1 of at most 16)" in seen
    assert json.loads(done.stdout)["can_be_mirrored"] is True
